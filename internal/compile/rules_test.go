package compile

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
)

const ownRule = `package meshc.object.mine

import rego.v1

# METADATA
# title: mine
# custom:
#   id: mine
#   severity: deny
findings contains {"id": "mine", "path": "x", "severity": "deny", "msg": "mine"} if input.kind == "Nothing"
`

func withRule(targets, name string) fstest.MapFS {
	return fstest.MapFS{
		"shop.cue": {Data: []byte("package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {namespace: \"shop\", environment: prod: {}" + targets +
			"}\nmesh: service: web: port: http: number: 80\n")},
		"policies/" + name:          {Data: []byte(ownRule)},
		"policies/mine_test.rego":   {Data: []byte("package meshc.object.mine_test\n")},
		"policies/notes.md":         {Data: []byte("notes")},
		"policies/more/helper.rego": {Data: []byte("package meshc.lib.helper\n\nx := 1\n")},
	}
}

// What judges in a cluster is part of what was approved: a release with objects carries
// the user's rules.
func TestRulesOfTheUserAreInAReleaseWithObjects(t *testing.T) {
	for targets, want := range map[string][]string{
		"":                          nil,
		", targets: kubernetes: {}": {"policies/mine.rego", "policies/more/helper.rego"},
	} {
		at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
		c := newCompiler(t, Default())
		passed, err := c.Release(t.Context(), withRule(targets, "mine.rego"), compiler.Options{At: at})
		if err != nil || passed.Problems.HasErrors() {
			t.Fatal(passed.Problems, err)
		}
		steps, err := c.Steps(t.Context(), withRule(targets, "mine.rego"), "prod", at)
		if err != nil || len(steps) != 1 || steps[0].Release.Digest() != passed.Release.Digest() {
			t.Errorf("a child makes another release: %v, %v", steps, err)
		}
		got := slices.DeleteFunc(passed.Release.Paths(), func(p string) bool { return !strings.HasPrefix(p, "policies/") })
		if !slices.Equal(got, want) {
			t.Errorf("with targets %q the release has %v, want %v", targets, got, want)
		}
	}
}
