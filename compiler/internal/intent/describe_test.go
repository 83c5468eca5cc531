package intent

import (
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
)

// Every value and every field of the schema can be told in words: no message
// shows a regular expression, no field lacks its comment.
func TestSchemaHasWords(t *testing.T) {
	for name, d := range description() {
		if d.doc == "" {
			t.Errorf("%s has no comment", name)
		}
		if d.expr != nil {
			if w := wantIdent(name); strings.Contains(w, "~") || w == name {
				t.Errorf("%s is told as %q; begin its comment with %q", name, w, name+" is a …")
			}
		}
		fields(t, name, d)
	}
}

func fields(t *testing.T, name string, d *definition) {
	t.Helper()
	for key, f := range d.fields {
		if strings.HasPrefix(key, "...") {
			continue
		}
		if f.doc == "" {
			t.Errorf("%s.%s has no comment", name, key)
		}
		if w := f.want(); strings.Contains(w, "~") || w == "" {
			t.Errorf("%s.%s is told as %q", name, key, w)
		}
		if f.holds != nil {
			fields(t, name+"."+key, f.holds)
		}
	}
	if d.pattern != nil {
		if w := d.pattern.want(); strings.Contains(w, "~") {
			t.Errorf("values of %s are told as %q", name, w)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{"timout": "timeout", "tiemout": "timeout", "Retry": "retry", "xyz": "", "": "", "timeouts": "timeout"} {
		if got, _ := diag.Nearest(name, []string{"retry", "timeout", "mirror"}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	// With nothing in common, one name is as near as any other.
	for name, want := range map[string]string{"a": "", "x": "", "xy": "", "v": "v1", "V": "v1", ".": ".", "v11": "v1", "b2": "v2"} {
		if got, _ := diag.Nearest(name, []string{".", "v1", "v2"}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
