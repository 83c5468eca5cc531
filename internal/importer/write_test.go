package importer

import (
	"strings"
	"testing"
)

// A name has one value, whoever writes it: what would have two is not written.
func TestEachNameIsWrittenOnce(t *testing.T) {
	for name, write := range map[string]func(*tree){
		"values":            func(t *tree) { t.add("a", "1"); t.add("a", "2") },
		"values alike":      func(t *tree) { t.add("a", "1"); t.add("a", "1") },
		"structs":           func(t *tree) { t.put("a", &tree{}); t.put("a", &tree{}) },
		"a struct, a value": func(t *tree) { t.child("a"); t.add("a", "1") },
		"a value, a struct": func(t *tree) { t.add("a", "1"); t.child("a").add("b", "1") },
		"joined":            func(t *tree) { o := &tree{}; o.add("a", "2"); t.add("a", "1"); t.join(o) },
		"joined clashes":    func(t *tree) { o := &tree{}; o.add("a", "1"); o.add("a", "2"); t.join(o) },
		"copied":            func(t *tree) { o := &tree{}; o.add("a", "1"); o.add("a", "2"); t.join(o.copied()) },
	} {
		out, inner := &tree{}, &tree{}
		write(inner)
		out.child("service").put("x", inner)
		if got := out.clashing(); got != "service.x.a" {
			t.Errorf("%s: the clash is %q", name, got)
		}
		if _, err := page("shop", out); err == nil || !strings.Contains(err.Error(), "service.x.a") {
			t.Errorf("%s: the page is written: %v", name, err)
		}
	}
	same := &tree{}
	same.child("b").add("c", "1")
	same.child("b").add("d", "1")
	if len(same.fields) != 1 || same.clashing() != "" {
		t.Errorf("a word to which two write clashes, or stands there twice: %v", same)
	}
}

// A name that is given is nobody else's, however long those are of which names are made, and
// whatever they end with.
func TestNamesAreGivenOnce(t *testing.T) {
	var n names
	seen := map[string]bool{}
	long := strings.Repeat("a", 80)
	for range 40 {
		for _, wanted := range []string{"x", "x-2", "X.2", long, long[:63], long + "-2", long[:52] + "-3", "-", strings.Repeat("a", 51) + "--b" + long} {
			name := n.give(wanted)
			if seen[name] || len(name) > 63 || nameOf(name) != name {
				t.Errorf("%q is given as %q", wanted, name)
			}
			seen[name] = true
		}
	}
	if n.take("x") || !n.take("shop/x") || n.take("shop/x") {
		t.Error("a name is taken twice")
	}
}
