package compiler_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/draw"
)

// The table of a service's proxy names one rule that decides, and that is the one by which the evaluator answers.
func TestTablesNameWhatDecides(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 2))
		m := draw.New(rand.New(rand.NewPCG(seed, 0)))
		for range 150 {
			s := m.Services[r.IntN(len(m.Services))]
			port := s.Ports[r.IntN(len(s.Ports))]
			q := m.Toward(r, "service", s.ID, port)
			ask := compiler.Request{From: q.From, To: s.ID, Port: port, Method: q.Method, Path: q.Target(), Host: q.Host, Headers: q.Headers, Source: q.Source, HTTP: compiler.HTTP2}
			if !strings.HasPrefix(ask.Path, "/") {
				ask.Path = "/" + ask.Path
			}
			a, err := m.Program.Decide(ask)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Steps) == 0 || a.ByProxy() {
				continue
			}
			var decides []compiler.Row
			rows := m.Program.Table(a)
			for _, row := range rows {
				if row.Decides {
					decides = append(decides, row)
				}
			}
			last := a.Steps[len(a.Steps)-1].Path
			asked := a.Outcome.Verdict == "forward" || a.Outcome.Verdict == "denied" && (a.Outcome.By == "" || a.Outcome.By == "deny")
			if !asked {
				continue
			}
			if len(decides) != 1 || decides[0].Path != last {
				t.Fatalf("seed %d: %+v is %s by %s, and the table says %+v of %+v", seed, ask, a.Words(), last, decides, rows)
			}
			want := map[bool]string{true: "grant", false: "deny"}[a.Outcome.Verdict == "forward"]
			if a.Outcome.Verdict == "denied" && a.Outcome.By == "" {
				want = map[bool]string{true: "handshake", false: "else"}[decides[0].Rule == "handshake"]
			}
			if decides[0].Rule != want {
				t.Fatalf("seed %d: %+v is %s, and what decides is a %s", seed, ask, a.Words(), decides[0].Rule)
			}
			kinds[want]++
		}
	}
	for _, kind := range []string{"handshake", "deny", "grant", "else"} {
		if kinds[kind] == 0 {
			t.Errorf("nothing was decided by a %s: %v", kind, kinds)
		}
	}
}
