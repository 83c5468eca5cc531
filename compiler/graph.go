package compiler

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// Graph is who calls whom.
type Graph struct {
	Nodes []Node
	Edges []Edge
}

// Node is a service, gateway or external. Rank is its distance from the edge of the mesh.
type Node struct {
	ID, Kind string
	Rank     int
}

// Edge is a call, or a route of a gateway.
type Edge struct{ From, To string }

// Graph returns the calls of the mesh, sorted.
func (p *Program) Graph() Graph {
	var g Graph
	edge := func(from, to string) {
		if e := (Edge{from, to}); !slices.Contains(g.Edges, e) {
			g.Edges = append(g.Edges, e)
		}
	}
	for _, gw := range p.mesh.Gateways {
		id := "gateway/" + gw.ID
		g.Nodes = append(g.Nodes, Node{ID: id, Kind: "gateway"})
		for _, h := range gw.Hosts {
			for _, r := range h.Routes {
				for _, t := range r.To {
					edge(id, t.Service)
				}
			}
		}
	}
	for _, s := range p.mesh.Services {
		g.Nodes = append(g.Nodes, Node{ID: s.ID, Kind: "service"})
		for _, c := range s.Calls {
			edge(s.ID, c.To)
		}
	}
	for _, e := range p.mesh.Externals {
		g.Nodes = append(g.Nodes, Node{ID: e.ID, Kind: "external"})
	}
	g.rank()
	return g
}

// rank puts every node one step behind its furthest caller; rings stop growing
// after as many steps as there are nodes.
func (g *Graph) rank() {
	at := map[string]int{}
	for i, n := range g.Nodes {
		at[n.ID] = i
	}
	for range g.Nodes {
		moved := false
		for _, e := range g.Edges {
			f, t := at[e.From], at[e.To]
			if g.Nodes[t].Rank <= g.Nodes[f].Rank && g.Nodes[f].Rank+1 < len(g.Nodes) {
				g.Nodes[t].Rank, moved = g.Nodes[f].Rank+1, true
			}
		}
		if !moved {
			return
		}
	}
}

// Render draws the graph as "mermaid", "dot" or "svg".
func (g Graph) Render(form string) (string, error) {
	switch form {
	case "mermaid":
		return g.mermaid(), nil
	case "dot":
		return g.dot(), nil
	case "svg":
		return g.svg(), nil
	}
	return "", fmt.Errorf("unknown form %q: use mermaid, dot or svg", form)
}

func (g Graph) mermaid() string {
	var b strings.Builder
	b.WriteString("graph LR\n")
	name := map[string]string{}
	for i, n := range g.Nodes {
		name[n.ID] = fmt.Sprintf("n%d", i)
		open, end := "[", "]"
		switch n.Kind {
		case "gateway":
			open, end = "([", "])"
		case "external":
			open, end = "[/", "/]"
		}
		fmt.Fprintf(&b, "  n%d%s%q%s\n", i, open, n.ID, end)
	}
	for _, e := range g.Edges {
		fmt.Fprintf(&b, "  %s --> %s\n", name[e.From], name[e.To])
	}
	return b.String()
}

func (g Graph) dot() string {
	var b strings.Builder
	b.WriteString("digraph mesh {\n  rankdir=LR\n  node [shape=box, style=rounded]\n")
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "  %q\n", n.ID)
	}
	for _, e := range g.Edges {
		fmt.Fprintf(&b, "  %q -> %q\n", e.From, e.To)
	}
	b.WriteString("}\n")
	return b.String()
}

// The sizes of the drawing, in pixels.
const (
	boxW, boxH, gapX, gapY, margin = 190, 40, 70, 24, 20
)

func (g Graph) svg() string {
	column := map[int]int{}
	x, y := map[string]int{}, map[string]int{}
	width, height := 0, 0
	for _, n := range g.Nodes {
		x[n.ID] = margin + n.Rank*(boxW+gapX)
		y[n.ID] = margin + column[n.Rank]*(boxH+gapY)
		column[n.Rank]++
		width, height = max(width, x[n.ID]+boxW+margin), max(height, y[n.ID]+boxH+margin)
	}
	fill := map[string]string{"gateway": "#dbeafe", "service": "#f1f5f9", "external": "#fef3c7"}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`+"\n", width, height, width, height)
	b.WriteString(`<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="#64748b"/></marker></defs>` + "\n")
	b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	for _, e := range g.Edges {
		x1, y1, x2, y2 := x[e.From]+boxW, y[e.From]+boxH/2, x[e.To], y[e.To]+boxH/2
		mid := (x1 + x2) / 2
		fmt.Fprintf(&b, `<path d="M%d %dC%d %d %d %d %d %d" fill="none" stroke="#64748b" stroke-width="1.5" marker-end="url(#a)"/>`+"\n", x1, y1, mid, y1, mid, y2, x2, y2)
	}
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="%s" stroke="#94a3b8"/><text x="%d" y="%d" text-anchor="middle" fill="#0f172a">%s</text>`+"\n",
			x[n.ID], y[n.ID], boxW, boxH, fill[n.Kind], x[n.ID]+boxW/2, y[n.ID]+boxH/2+5, html.EscapeString(strings.TrimPrefix(n.ID, "gateway/")))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
