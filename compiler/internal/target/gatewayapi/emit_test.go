package gatewayapi

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/golden"
)

type (
	wait  struct{ After trait.Duration }
	tag   struct{ Name, Value string }
	move  struct{ Path string }
	lossy struct{}
	lost  struct{}
)

func (wait) TraitName() string  { return "wait" }
func (tag) TraitName() string   { return "tag" }
func (move) TraitName() string  { return "move" }
func (lossy) TraitName() string { return "lossy" }
func (lost) TraitName() string  { return "lost" }

func column() Column {
	return Column{
		"wait": OnRule(func(r *Rule, v wait, _ *Ctx) { r.Timeouts = &Timeouts{Request: v.After.String()} }),
		"tag": OnRule(func(r *Rule, v tag, _ *Ctx) {
			r.Filters = append(r.Filters, Filter{Type: "RequestHeaderModifier", RequestHeaderModifier: Headers(map[string]string{v.Name: v.Value}, nil, nil)})
		}),
		"move": OnRule(func(r *Rule, v move, x *Ctx) {
			to := &RequestRedirect{Scheme: "https", Path: r.Moving(space.Move{How: space.Whole, To: v.Path}, x), StatusCode: 301}
			r.Filters = append(r.Filters, Filter{Type: "RequestRedirect", RequestRedirect: to})
		}),
		"lossy": Approximate("jitter is left out", OnRule(func(*Rule, lossy, *Ctx) {})),
		"lost":  Refuse("there is nothing like it"),
	}
}

func TestEmit(t *testing.T) {
	codecs := map[string]trait.Codec{
		"wait": trait.JSON[wait], "tag": trait.JSON[tag], "move": trait.JSON[move], "lossy": trait.JSON[lossy], "lost": trait.JSON[lost],
	}
	golden.Run(t, "testdata", func(t *testing.T, c golden.Case) map[string][]byte {
		m, err := model.Decode(c.In["mesh.json"], codecs)
		if err != nil {
			t.Fatal(err)
		}
		before, err := canon.JSON(m)
		if err != nil {
			t.Fatal(err)
		}
		arts, gaps, problems := Emit(m, column(), testConditions(), nil, Profile{})
		if after, _ := canon.JSON(m); canon.Digest(after) != canon.Digest(before) {
			t.Error("Emit changed the mesh")
		}
		out := map[string][]byte{}
		for _, a := range arts {
			out[a.Path] = a.Bytes
		}
		for _, g := range gaps {
			out["gaps"] = append(out["gaps"], g.Name+": "+g.Problem.String()+"\n"...)
		}
		for _, d := range problems {
			out["diag"] = append(out["diag"], d.String()+"\n"...)
		}
		return out
	})
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]string{"5s": "5s", "1.5s": "1s500ms", "1m30s": "1m30s", "250ms": "250ms", "0s": "0s", "2h0m0s": "2h"} {
		if got, err := duration(in); got != want || err != nil {
			t.Errorf("%s = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"1us", "x", "-1s", "100000h"} {
		if got, err := duration(bad); err == nil {
			t.Errorf("%s = %q, want an error", bad, got)
		}
	}
}
