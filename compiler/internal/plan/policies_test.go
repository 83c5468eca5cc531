package plan

import (
	"slices"
	"testing"
)

// What becomes of a policy is told by class, between the other lines.
func TestPoliciesAreCompared(t *testing.T) {
	p := Plan{Lines: []Line{{Class: Narrowing, Text: "a"}, {Class: Neutral, Text: "z"}}, Verdict: Narrowing}
	p.Policies(map[string]string{"same": "1", "gone": "2", "other": "3"}, map[string]string{"same": "1", "other": "4", "fresh": "5"})
	var got []string
	for _, l := range p.Lines {
		got = append(got, string(l.Class)+" "+lineText(l, RenderOptions{}))
	}
	want := []string{
		"narrowing : a",
		"weakening policy other: changed: see its text for what it denies no more",
		"weakening policy gone: removed: what it denied is denied no more",
		"neutral : z",
		"neutral policy fresh: new: it judges from the next change on",
	}
	if !slices.Equal(got, want) || p.Verdict != Narrowing {
		t.Errorf("verdict %s, lines %q", p.Verdict, got)
	}
	none := Plan{}
	none.Policies(map[string]string{"same": "1"}, map[string]string{"same": "1"})
	if none.Changed() || none.Verdict != "" {
		t.Errorf("no policy changes, and that is %+v", none)
	}
	none.Policies(map[string]string{"gone": "1"}, nil)
	if none.Verdict != Weakening {
		t.Errorf("the last policy goes, and that is %s", none.Verdict)
	}
}
