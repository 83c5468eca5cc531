package compiler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// Graph is who calls whom.
type Graph struct {
	Nodes []Node `json:"nodes"`
	Edges []Edge `json:"edges"`
}

// Node is a service, gateway or external.
type Node struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	// Rank is its distance from the edge of the graph.
	Rank int `json:"rank"`
	// Versions are a service's, if it has several, in the order of their names.
	Versions []Share `json:"versions,omitempty"`
	// Ports are the ports of services, gateways and externals, by name.
	Ports []NodePort `json:"ports,omitempty"`
}

// NodePort is a port of a node. MTLS is a service's.
type NodePort struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	MTLS     string `json:"mtls,omitempty"`
}

// Share is what a version gets of the requests to its service: from Least to Most of 100,
// as different routes may share them differently.
type Share struct {
	Version string  `json:"version"`
	Least   float64 `json:"least"`
	Most    float64 `json:"most"`
}

// notes are the short lines that a drawing has below the name of a node: how requests are
// shared, what lets in callers without a certificate, what an external speaks.
func (n Node) notes() []string {
	var out, spoken []string
	const inLine = 3
	for some := range slices.Chunk(n.Versions, inLine) {
		var line []string
		for _, v := range some {
			line = append(line, v.String())
		}
		out = append(out, strings.Join(line, ", "))
	}
	for _, p := range n.Ports {
		spoken = append(spoken, p.Protocol)
	}
	if open := n.open(); len(open) > 0 {
		out = append(out, "mTLS "+strings.Join(open, ", "))
	}
	if n.Kind != "service" {
		slices.Sort(spoken)
		out = append(out, strings.Join(slices.Compact(spoken), ", "))
	}
	return out
}

// open are the modes of a service's ports that let in callers without a certificate, with the
// port's name where there are others.
func (n Node) open() []string {
	var out []string
	for _, p := range n.Ports {
		switch {
		case n.Kind != "service" || p.MTLS == string(model.Strict):
		case len(n.Ports) == 1:
			out = append(out, p.MTLS)
		default:
			out = append(out, p.Name+" "+p.MTLS)
		}
	}
	return out
}

// lines are what a drawing says in the place of a node.
func (n Node) lines() []string { return append([]string{n.ID}, n.notes()...) }

// String is "v1 90%", or "v1 50–90%".
func (s Share) String() string {
	if s.Least != s.Most {
		return fmt.Sprintf("%s %v–%v%%", s.Version, s.Least, s.Most)
	}
	return fmt.Sprintf("%s %v%%", s.Version, s.Most)
}

// shares says what each version gets by the routes that send to some.
func shares(s *model.Service) []Share {
	if len(s.Versions) < 2 {
		return nil
	}
	out := make([]Share, len(s.Versions))
	for i, v := range s.Versions {
		out[i] = Share{Version: v.Name, Least: 100}
		for _, p := range s.Ports {
			for _, r := range s.RoutesAt(p) {
				if len(r.To) == 0 {
					continue
				}
				part := model.Percent(0)
				for _, t := range r.To {
					if t.Service == "" && t.Version == v.Name {
						part += t.Weight
					}
				}
				out[i].Least, out[i].Most = min(out[i].Least, part.Float()), max(out[i].Most, part.Float())
			}
		}
		out[i].Least = min(out[i].Least, out[i].Most) // no route sends anywhere
	}
	return out
}

func nodePorts(ports []model.Port) []NodePort {
	out := make([]NodePort, len(ports))
	for i, p := range ports {
		out[i] = NodePort{Name: p.Name, Protocol: string(p.Protocol), MTLS: string(p.MTLS)}
	}
	return out
}

// Edge is a call, or a route of a gateway, or one of a service that leads to another service.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Refused says that no request of the caller gets through: a call that lacks
	// its grant, as a rule. What a service's route leads on is its callers'.
	Refused bool `json:"refused,omitempty"`
}

// Graph returns the calls of the mesh, sorted.
func (p *Program) Graph() (Graph, error) {
	g := Graph{Nodes: []Node{}, Edges: []Edge{}}
	edge := func(from, to string) {
		if e := (Edge{From: from, To: to}); !slices.Contains(g.Edges, e) {
			g.Edges = append(g.Edges, e)
		}
	}
	for _, gw := range p.mesh.Gateways {
		id := "gateway/" + gw.ID
		g.Nodes = append(g.Nodes, Node{ID: id, Kind: "gateway", Ports: nodePorts(gw.Ports)})
		for _, to := range behind(gw) {
			edge(id, to)
		}
	}
	for _, s := range p.mesh.Services {
		for _, to := range p.mesh.LedTo(s)[1:] {
			if leadsTo(s, to.ID) {
				edge(s.ID, to.ID)
			}
		}
		g.Nodes = append(g.Nodes, Node{ID: s.ID, Kind: "service", Versions: shares(s), Ports: nodePorts(s.Ports)})
		for _, c := range s.Calls {
			edge(s.ID, c.To)
		}
	}
	for _, e := range p.mesh.Externals {
		g.Nodes = append(g.Nodes, Node{ID: e.ID, Kind: "external", Ports: nodePorts(e.Ports)})
	}
	g.rank()
	refused, err := p.refusals(g.Edges)
	for i := range g.Edges {
		g.Edges[i].Refused = refused[i]
	}
	return g, err
}

// leadsTo reports whether a route of a service sends to another one.
func leadsTo(s *model.Service, id string) bool {
	return slices.ContainsFunc(s.Routes, func(r model.Route) bool {
		return slices.ContainsFunc(model.Weighty(r.To), func(t model.Target) bool { return t.Service == id })
	})
}

// behind are the services and externals to which a gateway sends connections and requests, as
// often as it names them.
func behind(g *model.Gateway) []string {
	var out []string
	for _, p := range g.Ports {
		for _, s := range g.Streams(p.Name) {
			for _, t := range s.To {
				out = append(out, t.Service)
			}
		}
	}
	for _, h := range g.Hosts {
		for _, r := range h.Routes {
			for _, t := range r.To {
				out = append(out, t.Service)
			}
		}
	}
	return out
}

// Around is the graph of some nodes, of who calls them and of whom they call. A name is an ID, what
// only one node is called in its namespace, or "namespace/*". The error names one that there is not.
func (g Graph) Around(names []string) (Graph, error) {
	spaces, in := g.namespaces()
	called := map[string][]string{}
	for _, n := range g.Nodes {
		_, name := n.parts()
		for _, by := range []string{n.ID, name, gatewayPrefix + name} {
			if n.Kind == "gateway" || !strings.HasPrefix(by, gatewayPrefix) {
				called[by] = append(called[by], n.ID)
			}
		}
	}
	chosen := map[string]bool{}
	for _, name := range names {
		if s, whole := strings.CutSuffix(name, "/*"); whole {
			if in[s] == nil {
				return Graph{}, fmt.Errorf("the mesh has nothing in a namespace %q (it has %s)%s", s, some(spaces), diag.DidYouMean(s, spaces))
			}
			for _, i := range in[s] {
				chosen[g.Nodes[i].ID] = true
			}
			continue
		}
		switch ids := called[name]; len(ids) {
		case 0:
			return Graph{}, fmt.Errorf("the mesh has no service, gateway or external %q%s", name, diag.DidYouMean(name, slices.Sorted(maps.Keys(called))))
		case 1:
			chosen[ids[0]] = true
		default:
			return Graph{}, fmt.Errorf("several are called %q: write %s", name, strings.Join(ids, " or "))
		}
	}
	part, shown := Graph{Nodes: []Node{}, Edges: []Edge{}}, maps.Clone(chosen)
	for _, e := range g.Edges {
		if chosen[e.From] || chosen[e.To] {
			part.Edges = append(part.Edges, e)
			shown[e.From], shown[e.To] = true, true
		}
	}
	for _, n := range g.Nodes {
		if n.Rank = 0; shown[n.ID] {
			part.Nodes = append(part.Nodes, n)
		}
	}
	part.rank()
	return part, nil
}

// refusals says of each edge whether nothing gets through.
func (p *Program) refusals(edges []Edge) ([]bool, error) {
	ds := p.scopes()
	out := make([]bool, len(edges))
	for i, e := range edges {
		s, from := p.mesh.Service(e.To), p.mesh.Service(e.From)
		if s == nil || from != nil && !slices.ContainsFunc(from.Calls, func(c model.Call) bool { return c.To == e.To }) {
			continue // an external grants nothing, and by routes others come
		}
		out[i] = true
		for _, id := range p.accounts(e.From) {
			for _, port := range s.Ports {
				d, found := eval.FindService(ds, s.ID, port.Name)
				if !found {
					continue
				}
				ans, err := plan.CanI(p.mesh, d, plan.Query{Request: space.Request{From: id}}, Limits{})
				if err != nil {
					return out, fmt.Errorf("asking what %s may do at %s: %w", e.From, e.To, err)
				}
				out[i] = out[i] && ans.Can == plan.No
			}
		}
	}
	return out, nil
}

// accounts are the identities of a service or gateway.
func (p *Program) accounts(id string) []string {
	if name, ok := strings.CutPrefix(id, "gateway/"); ok {
		return []string{p.mesh.Gateway(name).Class().SPIFFEID(p.mesh.TrustDomain)}
	}
	s := p.mesh.Service(id)
	var out []string
	for _, v := range s.Versions {
		out = append(out, s.Class(v).SPIFFEID(p.mesh.TrustDomain))
	}
	slices.Sort(out)
	return slices.Compact(out)
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
		return newDrawing(g).svg(), nil
	}
	return "", fmt.Errorf("unknown form %q: use mermaid, dot or svg", form)
}

// namespaces are the nodes of each namespace, in the order of their names; at is where they
// stand in the graph.
func (g Graph) namespaces() (names []string, at map[string][]int) {
	at = map[string][]int{}
	for i, n := range g.Nodes {
		namespace, _ := n.parts()
		at[namespace] = append(at[namespace], i)
	}
	return slices.Sorted(maps.Keys(at)), at
}

func (g Graph) mermaid() string {
	var b strings.Builder
	b.WriteString("graph LR\n")
	name := map[string]string{}
	namespaces, at := g.namespaces()
	for k, namespace := range namespaces {
		fmt.Fprintf(&b, "  subgraph s%d [%q]\n", k, namespace)
		for _, i := range at[namespace] {
			n := g.Nodes[i]
			name[n.ID] = fmt.Sprintf("n%d", i)
			open, end := "[", "]"
			switch n.Kind {
			case "gateway":
				open, end = "([", "])"
			case "external":
				open, end = "[/", "/]"
			}
			fmt.Fprintf(&b, "    n%d%s%q%s\n", i, open, strings.Join(n.lines(), "<br/>"), end)
		}
		b.WriteString("  end\n")
	}
	for _, e := range g.Edges {
		arrow := "-->"
		if e.Refused {
			arrow = "-. refused .->"
		}
		fmt.Fprintf(&b, "  %s %s %s\n", name[e.From], arrow, name[e.To])
	}
	return b.String()
}

func (g Graph) dot() string {
	var b strings.Builder
	b.WriteString("digraph mesh {\n  rankdir=LR\n  node [shape=box, style=rounded]\n")
	namespaces, at := g.namespaces()
	for k, namespace := range namespaces {
		fmt.Fprintf(&b, "  subgraph cluster_%d {\n    label=%q\n", k, namespace)
		for _, i := range at[namespace] {
			n := g.Nodes[i]
			fmt.Fprintf(&b, "    %q", n.ID)
			if all := n.lines(); len(all) > 1 {
				fmt.Fprintf(&b, " [label=%q]", strings.Join(all, "\n"))
			}
			b.WriteString("\n")
		}
		b.WriteString("  }\n")
	}
	for _, e := range g.Edges {
		style := ""
		if e.Refused {
			style = ` [label="refused", style=dashed, color="#dc2626"]`
		}
		fmt.Fprintf(&b, "  %q -> %q%s\n", e.From, e.To, style)
	}
	b.WriteString("}\n")
	return b.String()
}
