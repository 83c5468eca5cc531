package plan_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/golden"
)

// setting is a feature of the tests: one text. Its class in a plan is its own.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (s setting) TraitName() string { return s.Name }

// named decodes a setting of that name from its value.
func named(name string) trait.Codec {
	return func(raw []byte) (trait.Value, error) {
		s := setting{Name: name}
		err := json.Unmarshal(raw, &s.Value)
		return s, err
	}
}

func features() (map[string]trait.Codec, eval.Column, plan.Words) {
	codecs, meaning, words := map[string]trait.Codec{}, eval.Column{}, plan.Words{}
	for name, class := range map[string]plan.Class{
		"timeout": plan.Weakening, "note": plan.Neutral, "mirror": plan.Weakening, "redirect": plan.Neutral, "outlier": plan.Weakening, "retry": plan.Weakening, "unknown": "",
	} {
		codecs[name] = named(name)
		field := "value"
		if name == "retry" {
			field = "attempts"
		}
		meaning[name] = func(v trait.Value) []space.Act {
			a := space.Act{At: space.AtWorkload, Fields: []space.Field{{Feature: name, Name: field, Value: v.(setting).Value}}}
			switch name {
			case "mirror":
				a.At = space.AtRoute
			case "redirect":
				a.At, a.Answer = space.AtRoute, &space.Reply{Status: 301}
			case "retry":
				n, err := strconv.Atoi(v.(setting).Value)
				if err != nil {
					panic(err)
				}
				a.Tries = 1 + n
			}
			return []space.Act{a}
		}
		if class != "" {
			words[name] = func(before, after []space.Field) (plan.Class, string) {
				return class, plan.Arrow(name, before, after)
			}
		}
	}
	return codecs, meaning, words
}

func decode(t *testing.T, raw []byte) *model.Mesh {
	t.Helper()
	codecs, _, _ := features()
	m, err := model.Decode(raw, codecs)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func compare(t *testing.T, before, after *model.Mesh, lim prove.Limits) plan.Plan {
	t.Helper()
	_, meaning, words := features()
	p, err := plan.Compare(plan.Side{Mesh: before}, plan.Side{Mesh: after}, meaning, words, lim)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCases(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c golden.Case) map[string][]byte {
		p := compare(t, decode(t, c.In["before.json"]), decode(t, c.In["after.json"]), prove.Limits{})
		var text, md bytes.Buffer
		o := plan.RenderOptions{Sections: []plan.Section{{Title: "findings", Lines: []string{"none"}}}}
		if err := plan.Text(&text, p, o); err != nil {
			t.Fatal(err)
		}
		if err := plan.Markdown(&md, p, o); err != nil {
			t.Fatal(err)
		}
		raw, err := canon.JSON(p)
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]byte{"plan.txt": text.Bytes(), "plan.md": md.Bytes(), "plan.json": raw}
	})
}
