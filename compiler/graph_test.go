package compiler

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

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

// Whatever the calls are, rings included: no box overlaps another one or is run
// through, everything is inside the picture, and the picture is XML.
func TestDrawing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Graph
		n := rapid.IntRange(0, 12).Draw(t, "nodes")
		for i := range n {
			g.Nodes = append(g.Nodes, Node{ID: fmt.Sprintf("n/%d", i), Kind: "service"})
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
