package compiler

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Sizes of a drawing in pixels.
const (
	boxH, gapX, gapY, margin = 34, 90, 14, 20
	noteH                    = 14 // of each line below a name
	laneH, laneGap           = 2, 5
	bandPad, bandGap         = 12, 14
	bandHead                 = 22 // where a band's name stands
	legendH                  = 44

	letterW   = 8  // of a wide letter
	noteW     = 7  // of one in a line below a name
	minLetter = 10 // letters that fit into the narrowest box
)

// drawing is a graph in columns, one for each rank, and in bands, one for each namespace. An
// arrow over several columns has a place in each that it passes, so that it runs behind no box.
type drawing struct {
	graph   Graph
	bands   []*band
	columns [][]*place
	nodes   map[string]*place
	ways    [][]*place // of each edge, from its first place to its last
	boxW    int
}

// band is what a namespace has of the picture.
type band struct {
	name        string
	row, top, h int
	rank        int // the sum of its nodes' ranks
	nodes       int
}

// place is a node, or where an arrow passes a column.
type place struct {
	node         *Node
	band         *band
	rank, row, y int
	before, next []*place
}

func (p *place) height() int {
	if p.node == nil {
		return laneH
	}
	return boxH + noteH*len(p.node.notes())
}

// gap is what is free below a place.
func (p *place) gap() int {
	if p.node == nil {
		return laneGap
	}
	return gapY
}

// parts are the namespace and the name of a node.
func (n Node) parts() (namespace, name string) {
	namespace, name, _ = strings.Cut(strings.TrimPrefix(n.ID, "gateway/"), "/")
	return namespace, name
}

func newDrawing(g Graph) *drawing {
	d := &drawing{graph: g, nodes: map[string]*place{}, boxW: minLetter * letterW}
	bands := map[string]*band{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		namespace, name := n.parts()
		if bands[namespace] == nil {
			bands[namespace] = &band{name: namespace}
		}
		b := bands[namespace]
		b.rank, b.nodes = b.rank+n.Rank, b.nodes+1
		d.nodes[n.ID] = d.put(n, n.Rank, b)
		d.boxW = max(d.boxW, (utf8.RuneCountInString(name)+2)*letterW)
		for _, note := range n.notes() {
			d.boxW = max(d.boxW, (utf8.RuneCountInString(note)+2)*noteW)
		}
	}
	// What is near the edge of the mesh stands above what it calls.
	d.bands = slices.SortedFunc(maps.Values(bands), func(a, b *band) int {
		return cmp.Or(cmp.Compare(a.rank*b.nodes, b.rank*a.nodes), strings.Compare(a.name, b.name))
	})
	for i, b := range d.bands {
		b.row = i
	}
	for _, e := range g.Edges {
		from, to := d.nodes[e.From], d.nodes[e.To]
		way := []*place{from}
		for r := from.rank + 1; r < to.rank; r++ {
			way = append(way, d.put(nil, r, to.band))
		}
		way = append(way, to)
		for i := range len(way) - 1 {
			way[i].next, way[i+1].before = append(way[i].next, way[i+1]), append(way[i+1].before, way[i])
		}
		d.ways = append(d.ways, way)
	}
	d.untangle()
	d.spread()
	return d
}

func (d *drawing) put(n *Node, rank int, b *band) *place {
	for len(d.columns) <= rank {
		d.columns = append(d.columns, nil)
	}
	p := &place{node: n, band: b, rank: rank, row: len(d.columns[rank])}
	d.columns[rank] = append(d.columns[rank], p)
	return p
}

// untangle sorts each column by the bands, and in each by the middle of what leads to it, and
// back, a few times: the usual way to few crossings.
func (d *drawing) untangle() {
	const sweeps = 4
	for range sweeps {
		for i := range d.columns {
			arrange(d.columns[i], func(p *place) []*place { return p.before })
		}
		for i := range slices.Backward(d.columns) {
			arrange(d.columns[i], func(p *place) []*place { return p.next })
		}
	}
}

func arrange(column []*place, neighbours func(*place) []*place) {
	middle := make(map[*place]float64, len(column))
	for _, p := range column {
		middle[p] = float64(p.row)
		if ns := neighbours(p); len(ns) > 0 {
			sum := 0
			for _, n := range ns {
				sum += n.row
			}
			middle[p] = float64(sum) / float64(len(ns))
		}
	}
	slices.SortStableFunc(column, func(a, b *place) int {
		return cmp.Or(cmp.Compare(a.band.row, b.band.row), cmp.Compare(middle[a], middle[b]))
	})
	for i, p := range column {
		p.row = i
	}
}

// spread sets the heights: each band is as high as the highest of its columns, which stand in
// its middle.
func (d *drawing) spread() {
	inBand := func(c []*place, b *band) []*place {
		return slices.DeleteFunc(slices.Clone(c), func(p *place) bool { return p.band != b })
	}
	y := margin + legendH
	for _, b := range d.bands {
		inner := 0
		for _, c := range d.columns {
			inner = max(inner, columnHeight(inBand(c, b)))
		}
		b.top, b.h = y, bandHead+inner+bandPad
		for _, c := range d.columns {
			own := inBand(c, b)
			at := b.top + bandHead + (inner-columnHeight(own))/2
			for _, p := range own {
				p.y = at + p.height()/2
				at += p.height() + p.gap()
			}
		}
		y += b.h + bandGap
	}
}

// columnHeight is what places take one below the other.
func columnHeight(c []*place) int {
	h := 0
	for i, p := range c {
		h += p.height()
		if i < len(c)-1 {
			h += p.gap()
		}
	}
	return h
}

func (d *drawing) height() int {
	h := margin + legendH
	for _, b := range d.bands {
		h += b.h + bandGap
	}
	return h + margin - min(bandGap, len(d.bands)*bandGap)
}

// width leaves room for the legend.
func (d *drawing) width() int {
	at := margin
	for _, e := range legend() {
		at += e.width()
	}
	return max(len(d.columns)*(d.boxW+gapX)-gapX+2*(margin+bandPad), at+margin)
}

func (d *drawing) left(p *place) int { return margin + bandPad + p.rank*(d.boxW+gapX) }

// style are the colours by day and by night.
const style = `<style>
.paper{fill:#ffffff} .band{fill:#f8fafc;stroke:#e2e8f0} .head{fill:#64748b;font-weight:600} .name{fill:#0f172a} .note{fill:#475569;font-size:11px}
.gateway{fill:#dbeafe;stroke:#60a5fa} .service{fill:#ffffff;stroke:#94a3b8} .external{fill:#fef3c7;stroke:#f59e0b} .open{stroke:#ea580c;stroke-width:2}
.call{fill:none;stroke:#94a3b8;stroke-width:1.3} .refused{fill:none;stroke:#dc2626;stroke-width:1.6;stroke-dasharray:5 4} .tip{fill:#94a3b8} .stop{fill:#dc2626}
@media (prefers-color-scheme: dark) {
.paper{fill:#0b1220} .band{fill:#111a2e;stroke:#1e293b} .head{fill:#94a3b8} .name{fill:#e2e8f0} .note{fill:#a8b5c7}
.gateway{fill:#1e3a5f;stroke:#3b82f6} .service{fill:#1c2740;stroke:#475569} .external{fill:#46360f;stroke:#b45309} .open{stroke:#fb923c} .call{stroke:#5b6b84} .tip{fill:#5b6b84} .refused{stroke:#f87171} .stop{fill:#f87171}
}
</style>`

func (d *drawing) svg() string {
	var b strings.Builder
	w, h := d.width(), d.height()
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`+"\n%s\n<defs>", w, h, w, h, style)
	for _, end := range []string{"tip", "stop"} {
		fmt.Fprintf(&b, `<marker id=%q viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" class=%q/></marker>`, end, end)
	}
	b.WriteString("</defs>\n" + `<rect width="100%" height="100%" class="paper"/>` + "\n")
	d.explain(&b)
	for _, band := range d.bands {
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="10" class="band"/><text x="%d" y="%d" class="head">%s</text>`+"\n",
			margin, band.top, w-2*margin, band.h, margin+bandPad, band.top+bandHead-6, html.EscapeString(band.name))
	}
	leaves, arrives := d.ends(func(way []*place) (end, other *place) { return way[0], way[1] }), d.ends(func(way []*place) (end, other *place) { return way[len(way)-1], way[len(way)-2] })
	for _, refused := range []bool{false, true} { // what is refused is not hidden
		for i, e := range d.graph.Edges {
			if e.Refused == refused {
				d.arrow(&b, e, d.ways[i], leaves[i], arrives[i])
			}
		}
	}
	for _, n := range d.graph.Nodes {
		d.box(&b, n, d.nodes[n.ID])
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (d *drawing) box(b *strings.Builder, n Node, p *place) {
	top, middle := p.y-p.height()/2, d.left(p)+d.boxW/2
	class := n.Kind
	if len(n.open()) > 0 {
		class += " open"
	}
	_, name := n.parts()
	fmt.Fprintf(b, `<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="7" class=%q/><text x="%d" y="%d" text-anchor="middle" class="name">%s</text>`,
		html.EscapeString(n.ID), d.left(p), top, d.boxW, p.height(), class, middle, top+boxH/2+5, html.EscapeString(name))
	for i, note := range n.notes() {
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" class="note">%s</text>`, middle, top+boxH+i*noteH+4, html.EscapeString(note))
	}
	b.WriteString("</g>\n")
}

// entry is one of the legend: a box or an arrow, and what it means.
type entry struct{ class, text string }

func legend() []entry {
	return []entry{{"gateway", "gateway"}, {"service", "service"}, {"service open", "takes callers without a certificate"}, {"external", "outside of the mesh"}, {"call", "calls"}, {"refused", "calls, and is refused"}}
}

const sampleW = 26 // of what the legend explains

func (e entry) width() int { return sampleW + 8 + utf8.RuneCountInString(e.text)*noteW + 18 }

// explain writes the legend, and above it how much there is.
func (d *drawing) explain(b *strings.Builder) {
	fmt.Fprintf(b, `<text x="%d" y="%d" class="head">%s</text>`+"\n", margin, margin+4, html.EscapeString(d.graph.sum()))
	x, y := margin, margin+26
	for _, e := range legend() {
		switch e.class {
		case "call", "refused":
			end := map[string]string{"call": "tip", "refused": "stop"}[e.class]
			fmt.Fprintf(b, `<path d="M%d %dH%d" class=%q marker-end="url(#%s)"/>`, x, y-4, x+sampleW, e.class, end)
		default:
			fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="12" rx="3" class=%q/>`, x, y-10, sampleW, e.class)
		}
		fmt.Fprintf(b, `<text x="%d" y="%d" class="note">%s</text>`+"\n", x+sampleW+8, y, e.text)
		x += e.width()
	}
}

// sum is how much there is in a graph.
func (g Graph) sum() string {
	kinds, refused := map[string]int{}, 0
	for _, n := range g.Nodes {
		kinds[n.Kind]++
	}
	for _, e := range g.Edges {
		if e.Refused {
			refused++
		}
	}
	var out []string
	for _, of := range []struct {
		n    int
		what string
	}{{kinds["gateway"], "gateway"}, {kinds["service"], "service"}, {kinds["external"], "external"}, {len(g.Edges), "call"}} {
		if of.n != 0 {
			out = append(out, plural(of.n, of.what))
		}
	}
	if refused > 0 {
		out = append(out, fmt.Sprintf("%d refused", refused))
	}
	return strings.Join(out, " · ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// ends are how far from the middle of a box each edge touches it: those of one box are spread
// over its side, in the order in which their other ends stand.
func (d *drawing) ends(of func(way []*place) (end, other *place)) []int {
	at := map[*place][]int{}
	for i, way := range d.ways {
		end, _ := of(way)
		at[end] = append(at[end], i)
	}
	out := make([]int, len(d.ways))
	for end, edges := range at {
		slices.SortStableFunc(edges, func(i, j int) int {
			_, a := of(d.ways[i])
			_, b := of(d.ways[j])
			return cmp.Compare(a.y, b.y)
		})
		free := end.height() - 16
		step := min(10, free/max(1, len(edges)-1))
		for k, i := range edges {
			out[i] = k*step - step*(len(edges)-1)/2
		}
	}
	return out
}

func (d *drawing) arrow(b *strings.Builder, e Edge, way []*place, leaves, arrives int) {
	class, end, said := "call", "tip", "calls"
	if e.Refused {
		class, end, said = "refused", "stop", "is refused by"
	}
	y := func(i int) int {
		switch i {
		case 0:
			return way[0].y + leaves
		case len(way) - 1:
			return way[i].y + arrives
		}
		return way[i].y
	}
	fmt.Fprintf(b, `<path d="M%d %d`, d.left(way[0])+d.boxW, y(0))
	for i, p := range way[1:] {
		from := way[i]
		mid := (d.left(from) + d.boxW + d.left(p)) / 2
		fmt.Fprintf(b, "C%d %d %d %d %d %d", mid, y(i), mid, y(i+1), d.left(p), y(i+1))
		if p.node == nil {
			fmt.Fprintf(b, "H%d", d.left(p)+d.boxW)
		}
	}
	fmt.Fprintf(b, `" class=%q marker-end="url(#%s)"><title>%s %s %s</title></path>`+"\n", class, end, html.EscapeString(e.From), said, html.EscapeString(e.To))
}
