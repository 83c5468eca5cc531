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
		"mermaid": "n5 -. refused .-> n3\n", "dot": `"reports/report" -> "bookinfo/ratings" [label="refused"`, "svg": ">refused</text>",
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

// Whatever the calls are, rings included: no box overlaps another one or is run
// through, everything is inside the picture, and the picture is XML.
func TestDrawing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Graph
		n := rapid.IntRange(0, 12).Draw(t, "nodes")
		for i := range n {
			n := Node{ID: fmt.Sprintf("n/%d", i), Kind: "service"}
			for v := range rapid.IntRange(0, 9).Draw(t, "versions") {
				n.Versions = append(n.Versions, Share{Version: fmt.Sprintf("v%d", v), Most: 10 * v})
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
		for _, c := range d.columns {
			low := 0
			for _, p := range c {
				if p.y-p.height()/2 < low || p.y+p.height()/2 > d.height() {
					t.Fatalf("%v overlaps, or is outside of %d", p, d.height())
				}
				low = p.y + p.height()/2
			}
		}
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
