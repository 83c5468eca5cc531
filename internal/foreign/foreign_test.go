package foreign_test

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"meshc.dev/meshc/internal/foreign"
	"meshc.dev/meshc/policies"
)

// The rules and what an API server asks about are one list.
func TestTheRulesNameTheSameGroups(t *testing.T) {
	raw, err := fs.ReadFile(policies.FS, "baseline/foreign.rego")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "\ngroups := {")
	set, _, found := strings.Cut(rest, "\n}")
	if !found {
		t.Fatal("the rules have no set of groups")
	}
	var ruled []string
	for _, m := range regexp.MustCompile(`"([a-z.0-9-]+)"`).FindAllStringSubmatch(set, -1) {
		ruled = append(ruled, m[1])
	}
	var whole []string
	for _, g := range foreign.Groups() {
		if !slices.IsSorted(g.Resources) {
			t.Errorf("%s: the resources are not sorted", g.Name)
		}
		if g.Kinds == nil {
			whole = append(whole, g.Name)
			continue
		}
		for _, k := range g.Kinds {
			if !strings.Contains(string(raw), `["`+g.Name+`", "`+k+`"]`) {
				t.Errorf("no rule names %s of %s", k, g.Name)
			}
		}
	}
	if diff := cmp.Diff(whole, ruled); diff != "" {
		t.Error(diff)
	}
}
