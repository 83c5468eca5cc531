package compiler

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestGraphTellsWhichCallsAreRefused(t *testing.T) {
	p, ds := Load(os.DirFS("../examples/bookinfo/intent"), Options{Environment: "local", At: time.Unix(1.8e9, 0)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	g, err := p.Graph()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range g.Edges {
		if want := e.From == "reports/report"; e.Refused != want {
			t.Errorf("%s → %s: refused %v", e.From, e.To, e.Refused)
		}
	}
	for form, want := range map[string]string{
		"mermaid": "n5 -. refused .-> n3\n", "dot": `"reports/report" -> "bookinfo/ratings" [label="refused"`, "svg": "reports/report is refused by bookinfo/ratings",
	} {
		text, err := g.Render(form)
		if err != nil || strings.Count(text, want) != 1 {
			t.Errorf("%s: %v\n%s", form, err, text)
		}
	}
	if _, err := g.Render("png"); err == nil || !strings.Contains(err.Error(), "mermaid, dot or svg") {
		t.Errorf("png: %v", err)
	}
}

// Below a name stand how requests are shared among versions, where mTLS is not strict, and
// what is spoken with those outside.
func TestGraphTellsOfVersionsAndProtocols(t *testing.T) {
	p, ds := Load(fstest.MapFS{
		"mesh.cue": {Data: []byte(`package mesh

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: owner: "platform"
`)},
		"shop/shop.cue": {Data: []byte(`package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: {namespace: "shop", owner: "team"}
mesh: gateway: front: {
	port: http: number: 80
	host: "*": route: all: to: web: 100
}
mesh: service: web: {
	port: http: {number: 8080, mtls: {mode: "permissive", owner: "team", reason: "old callers", until: "2030-01-01T00:00:00Z"}}
	version: {v1: {}, v2: {}, v3: {}, v4: {}}
	route: {
		beta: {match: headers: "x-beta": exact: "1", to: v4: 100}
		default: to: {v1: 60, v2: 30, v3: 10}
	}
	grant: all: from: ["gateway/front"]
	calls: {"pay": {}, db: {}}
}
mesh: service: db: {
	port: {a: {number: 1, main: true}, b: {number: 2, mtls: {mode: "disable", owner: "team", reason: "a probe", until: "2030-01-01T00:00:00Z"}}}
	version: {v1: {}, v2: {}}
	grant: web: from: ["web"]
}
mesh: external: pay: {
	hosts: ["pay.example"]
	port: api: {number: 443, protocol: "https"}
}
`)},
	}, Options{At: time.Unix(1.8e9, 0)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	g, err := p.Graph()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, n := range g.Nodes {
		got[n.ID] = n.notes()
	}
	want := map[string][]string{
		"gateway/shop/front": {"http"},
		"shop/web":           {"v1 0–60%, v2 0–30%, v3 0–10%", "v4 0–100%", "mTLS permissive"},
		"shop/db":            {"v1 50%, v2 50%", "mTLS b disable"},
		"shop/pay":           {"https"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for form, want := range map[string]string{"mermaid": `["shop/db<br/>v1 50%, v2 50%<br/>mTLS b disable"]`, "dot": `"shop/db" [label="shop/db\nv1 50%, v2 50%\nmTLS b disable"]`, "svg": ">mTLS b disable</text>"} {
		if text, err := g.Render(form); err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: %v\n%s", form, err, text)
		}
	}
}

// whole checks that no two of a drawing's boxes and lines of text overlap, that no arrow passes
// behind a box, and that everything is inside the picture and inside its namespace's band.
func whole(t interface{ Fatalf(string, ...any) }, d *drawing) {
	type area struct {
		what                     string
		left, top, right, bottom int
	}
	at := margin
	taken := []area{{"the sum", margin, margin - 8, margin + len(d.graph.sum())*letterW, margin + 8}}
	for _, e := range legend() {
		taken = append(taken, area{e.text, at, margin + 14, at + e.width(), margin + 30})
		at += e.width()
	}
	for _, b := range d.bands {
		taken = append(taken, area{b.name, margin, b.top, margin + bandPad + len(b.name)*letterW, b.top + bandHead - 1})
	}
	for _, c := range d.columns {
		for _, p := range c {
			what := "a place on the way"
			if p.node != nil {
				what = p.node.ID
			}
			a := area{what, d.left(p), p.y - p.height()/2, d.left(p) + d.boxW, p.y - p.height()/2 + p.height()}
			if a.top < p.band.top || a.bottom > p.band.top+p.band.h {
				t.Fatalf("%v is not in its band %v", a, *p.band)
			}
			taken = append(taken, a)
		}
	}
	for i, a := range taken {
		if a.left < 0 || a.top < 0 || a.right > d.width() || a.bottom > d.height() {
			t.Fatalf("%v is outside of %d × %d", a, d.width(), d.height())
		}
		for _, b := range taken[:i] {
			if a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom {
				t.Fatalf("%v overlaps %v", a, b)
			}
		}
	}
}

// Sixty services of eight teams are drawn so that nothing hides anything.
func TestDrawingOfSixtyServices(t *testing.T) {
	var g Graph
	teams := []string{"accounts", "cart", "catalog", "orders", "payments", "platform", "shipping", "web"}
	g.Nodes = append(g.Nodes, Node{ID: "gateway/edge/public", Kind: "gateway", Ports: []NodePort{{Name: "http", Protocol: "http"}}})
	for i := range 60 {
		n := Node{ID: fmt.Sprintf("%s/service-with-a-name-%d", teams[i%len(teams)], i), Kind: "service", Ports: []NodePort{{Name: "http", Protocol: "http", MTLS: "strict"}}}
		if i%7 == 0 {
			n.Versions = []Share{{"v1", 0, 90}, {"v2", 10, 100}}
		}
		if i%11 == 0 {
			n.Ports[0].MTLS = "permissive"
		}
		g.Nodes = append(g.Nodes, n)
		for k := 1; k < 4 && i > 0; k++ {
			g.Edges = append(g.Edges, Edge{From: g.Nodes[1+(i*k*5)%i].ID, To: n.ID, Refused: (i+k)%13 == 0})
		}
	}
	g.Edges = append(g.Edges, Edge{From: "gateway/edge/public", To: g.Nodes[1].ID})
	g.Nodes = append(g.Nodes, Node{ID: "payments/bank", Kind: "external", Ports: []NodePort{{Name: "api", Protocol: "https"}}})
	g.Edges = append(g.Edges, Edge{From: g.Nodes[40].ID, To: "payments/bank"})
	g.rank()
	whole(t, newDrawing(g))
}

// Whatever the calls are, rings included: no box overlaps another one or is run
// through, everything is inside the picture, and the picture is XML.
func TestDrawing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Graph
		n := rapid.IntRange(0, 12).Draw(t, "nodes")
		for i := range n {
			n := Node{ID: fmt.Sprintf("%s/%d", rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace"), i), Kind: "service"}
			for v := range rapid.IntRange(0, 9).Draw(t, "versions") {
				n.Versions = append(n.Versions, Share{Version: fmt.Sprintf("v%d", v), Most: float64(10 * v)})
			}
			if rapid.Bool().Draw(t, "permissive") {
				n.Ports = []NodePort{{Name: "http", MTLS: "permissive"}}
			}
			g.Nodes = append(g.Nodes, n)
		}
		for range rapid.IntRange(0, 3*n).Draw(t, "edges") {
			from, to := rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to")
			g.Edges = append(g.Edges, Edge{From: g.Nodes[from].ID, To: g.Nodes[to].ID, Refused: rapid.Bool().Draw(t, "refused")})
		}
		g.rank()
		d := newDrawing(g)
		whole(t, d)
		dec := xml.NewDecoder(strings.NewReader(d.svg()))
		for {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
}
