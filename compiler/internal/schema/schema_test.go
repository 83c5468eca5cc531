package schema

import (
	"strings"
	"testing"
)

// Every value and every field of the schema can be told in words: no message
// shows a regular expression, no field lacks its comment.
func TestSchemaHasWords(t *testing.T) {
	for name, d := range Definitions() {
		if d.Doc == "" {
			t.Errorf("%s has no comment", name)
		}
		if d.Expr != nil {
			if w := WantIdent(name); strings.Contains(w, "~") || w == name {
				t.Errorf("%s is told as %q; begin its comment with %q", name, w, name+" is a …")
			}
		}
		fields(t, name, d)
	}
}

func fields(t *testing.T, name string, d *Definition) {
	t.Helper()
	for key, f := range d.Fields {
		if strings.HasPrefix(key, "...") {
			continue
		}
		if f.Doc == "" {
			t.Errorf("%s.%s has no comment", name, key)
		}
		if w := f.Want(); strings.Contains(w, "~") || w == "" {
			t.Errorf("%s.%s is told as %q", name, key, w)
		}
		if f.Holds != nil {
			fields(t, name+"."+key, f.Holds)
		}
	}
	if d.Pattern != nil {
		if w := d.Pattern.Want(); strings.Contains(w, "~") {
			t.Errorf("values of %s are told as %q", name, w)
		}
	}
}
