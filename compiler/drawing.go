package compiler

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

// Sizes of a drawing in pixels, and the colours of its arrows.
const (
	boxH, gapX, gapY, margin = 40, 80, 24, 20
	noteH                    = 15 // of each line below a name

	laneH     = 6  // height of a place that an arrow passes through
	letterW   = 8  // of a wide letter
	noteW     = 7  // of one in a line below a name
	minLetter = 12 // letters that fit into the narrowest box

	allowedColor, refusedColor = "#64748b", "#dc2626"
)

// drawing is a graph in columns, one for each rank. An arrow over several columns
// has a place in each that it passes, so that it runs behind no box.
type drawing struct {
	graph   Graph
	columns [][]*place
	nodes   map[string]*place
	ways    [][]*place // of each edge, from its first place to its last
	boxW    int
}

// place is a node, or where an arrow passes a column.
type place struct {
	node         *Node
	rank, row, y int
	before, next []*place
}

func (p *place) height() int {
	if p.node == nil {
		return laneH
	}
	return boxH + noteH*len(p.node.notes())
}

func newDrawing(g Graph) *drawing {
	d := &drawing{graph: g, nodes: map[string]*place{}, boxW: minLetter * letterW}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		d.nodes[n.ID] = d.put(n, n.Rank)
		d.boxW = max(d.boxW, (len(n.ID)+2)*letterW)
		for _, note := range n.notes() {
			d.boxW = max(d.boxW, (utf8.RuneCountInString(note)+2)*noteW)
		}
	}
	for _, e := range g.Edges {
		from, to := d.nodes[e.From], d.nodes[e.To]
		way := []*place{from}
		for r := from.rank + 1; r < to.rank; r++ {
			way = append(way, d.put(nil, r))
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

func (d *drawing) put(n *Node, rank int) *place {
	for len(d.columns) <= rank {
		d.columns = append(d.columns, nil)
	}
	p := &place{node: n, rank: rank, row: len(d.columns[rank])}
	d.columns[rank] = append(d.columns[rank], p)
	return p
}

// untangle sorts each column by the middle of what leads to it, and back, a few
// times: the usual way to few crossings.
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
	slices.SortStableFunc(column, func(a, b *place) int { return cmp.Compare(middle[a], middle[b]) })
	for i, p := range column {
		p.row = i
	}
}

// spread sets the heights, each column in the middle.
func (d *drawing) spread() {
	for _, c := range d.columns {
		y := margin + (d.height()-2*margin-columnHeight(c))/2
		for _, p := range c {
			p.y = y + p.height()/2
			y += p.height() + gapY
		}
	}
}

func columnHeight(c []*place) int {
	h := -gapY
	for _, p := range c {
		h += p.height() + gapY
	}
	return max(h, 0)
}

func (d *drawing) height() int {
	h := 0
	for _, c := range d.columns {
		h = max(h, columnHeight(c))
	}
	return h + 2*margin
}

func (d *drawing) width() int { return len(d.columns)*(d.boxW+gapX) - gapX + 2*margin }

func (d *drawing) left(p *place) int { return margin + p.rank*(d.boxW+gapX) }

func (d *drawing) svg() string {
	var b strings.Builder
	w, h := max(d.width(), 2*margin), d.height()
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`+"\n<defs>", w, h, w, h)
	for i, color := range []string{allowedColor, refusedColor} {
		fmt.Fprintf(&b, `<marker id="a%d" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="%s"/></marker>`, i, color)
	}
	b.WriteString("</defs>\n" + `<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	for i, e := range d.graph.Edges {
		d.arrow(&b, e, d.ways[i])
	}
	fill := map[string]string{"gateway": "#dbeafe", "service": "#f1f5f9", "external": "#fef3c7"}
	for _, n := range d.graph.Nodes {
		p := d.nodes[n.ID]
		top, middle := p.y-p.height()/2, d.left(p)+d.boxW/2
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="%s" stroke="#94a3b8"/><text x="%d" y="%d" text-anchor="middle" fill="#0f172a">%s</text>`+"\n",
			d.left(p), top, d.boxW, p.height(), fill[n.Kind], middle, top+boxH/2+5, html.EscapeString(n.ID))
		for i, note := range n.notes() {
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" font-size="11" fill="#475569">%s</text>`+"\n", middle, top+boxH+i*noteH+4, html.EscapeString(note))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (d *drawing) arrow(b *strings.Builder, e Edge, way []*place) {
	color, marker, dash := allowedColor, 0, ""
	if e.Refused {
		color, marker, dash = refusedColor, 1, ` stroke-dasharray="5 4"`
	}
	fmt.Fprintf(b, `<path d="M%d %d`, d.left(way[0])+d.boxW, way[0].y)
	for i, p := range way[1:] {
		from := way[i]
		mid := (d.left(from) + d.boxW + d.left(p)) / 2
		fmt.Fprintf(b, "C%d %d %d %d %d %d", mid, from.y, mid, p.y, d.left(p), p.y)
		if p.node == nil {
			fmt.Fprintf(b, "H%d", d.left(p)+d.boxW)
		}
	}
	fmt.Fprintf(b, `" fill="none" stroke="%s" stroke-width="1.5"%s marker-end="url(#a%d)"/>`+"\n", color, dash, marker)
	if e.Refused {
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" font-size="11" fill="%s">refused</text>`+"\n",
			d.left(way[0])+d.boxW+gapX/2, (way[0].y+way[1].y)/2-6, refusedColor)
	}
}
