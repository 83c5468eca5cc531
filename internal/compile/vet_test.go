package compile

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"meshc.dev/meshc/compiler"
)

// rule is a user's policy that looks at something of the input.
func rule(look string) fstest.MapFS {
	return fstest.MapFS{"own.rego": {Data: []byte(fmt.Sprintf(`package meshc.mesh.own

import data.meshc.lib.mesh
import rego.v1

# METADATA
# title: A rule
# custom:
#   id: own
#   severity: warn
findings contains mesh.finding(rego.metadata.rule(), ["service"], "never", "do nothing") if {
	%s
	false
}
`, look))}}
}

// What was found sound is told again without evaluating anything: a compiler that cannot
// start a child tells it, too. What may be otherwise now is checked.
func TestRevetTellsAgainWhatCannotHaveChanged(t *testing.T) {
	intent := honest(2)
	ending := maps.Clone(intent)
	ending["until.cue"] = &fstest.MapFile{Data: []byte("package mesh\n// nothing is here until later\n")}
	other := maps.Clone(intent)
	other["more.cue"] = &fstest.MapFile{Data: []byte("package mesh\n")}
	cases := map[string]struct {
		before, after         fstest.MapFS
		rules, otherRules     fstest.MapFS
		environment           string
		later, known, damaged bool
	}{
		"the same":                   {before: intent, after: intent, known: true},
		"the same, later":            {before: intent, after: intent, later: true, known: true},
		"something may end":          {before: ending, after: ending, known: true},
		"something may end, later":   {before: ending, after: ending, later: true},
		"another file":               {before: intent, after: other},
		"another environment":        {before: intent, after: intent, environment: "prod"},
		"a rule":                     {before: intent, after: intent, rules: rule(`count(input.mesh.services) > 0`), otherRules: rule(`count(input.mesh.services) > 0`), later: true, known: true},
		"another rule":               {before: intent, after: intent, rules: rule(`count(input.mesh.services) > 0`), otherRules: rule(`count(input.mesh.services) > 1`)},
		"a new rule":                 {before: intent, after: intent, otherRules: rule(`count(input.mesh.services) > 0`)},
		"a rule on the date":         {before: intent, after: intent, rules: rule(`input.at != ""`), otherRules: rule(`input.at != ""`), known: true},
		"a rule on the date, later":  {before: intent, after: intent, rules: rule(`input.at != ""`), otherRules: rule(`input.at != ""`), later: true},
		"a rule on any field, later": {before: intent, after: intent, rules: rule(`some k; input[k] == ""`), otherRules: rule(`some k; input[k] == ""`), later: true},
		"a rule on all of it, later": {before: intent, after: intent, rules: rule(`x := input; x.at != ""`), otherRules: rule(`x := input; x.at != ""`), later: true},
		"an entry that was changed":  {before: intent, after: intent, damaged: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept := compiler.DirCache(t.TempDir())
			vet := func(c *Compiler, files, rules fstest.MapFS, env string, at time.Time) (Vetted, error) {
				var own Rego
				if rules != nil {
					own = Rego{rules, "policies"}
				}
				return c.Revet(t.Context(), files, compiler.Options{Environment: env, At: at}, own)
			}
			c, err := New(Default(), kept)
			if err != nil {
				t.Fatal(err)
			}
			first, err := vet(c, tc.before, tc.rules, "", date())
			if err != nil || first.Problems.HasErrors() {
				t.Fatal(err, first.Problems)
			}
			at := date()
			if tc.later {
				at = at.Add(time.Hour)
			}
			broken, err := New(Default(), verdictsOf(kept, tc.damaged))
			if err != nil {
				t.Fatal(err)
			}
			broken.program = "/nowhere"
			again, err := vet(broken, tc.after, tc.otherRules, tc.environment, at)
			switch known := err == nil && !again.Problems.HasErrors(); {
			case known != tc.known:
				t.Errorf("it was known: %v; %v", known, again.Problems)
			case known && (cmp.Diff(first, again, cmpopts.IgnoreFields(Vetted{}, "Release")) != ""):
				t.Errorf("it is told as %q and %q, before %q and %q", again.Told, again.Problems, first.Told, first.Problems)
			}
		})
	}
}

// verdicts is what a cache knows of verdicts alone, so that packages have to be evaluated.
type verdicts struct {
	compiler.Cache
	damaged bool
}

func verdictsOf(c compiler.Cache, damaged bool) compiler.Cache { return verdicts{c, damaged} }

func (v verdicts) Get(key string) ([]byte, bool) {
	b, ok := v.Cache.Get(key)
	if !strings.Contains(string(b), `"told"`) {
		return nil, false
	}
	if v.damaged {
		b = []byte(strings.Replace(string(b), "proxy", "pr0xy", 1))
	}
	return b, ok
}
