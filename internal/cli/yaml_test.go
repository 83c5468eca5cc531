package cli

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/printer/printertest"
)

// A document says the same as YAML, to readers of YAML 1.1 as well, and nothing of it acts.
func TestYAMLIsTheSameDocument(t *testing.T) {
	word := rapid.OneOf(rapid.String(), rapid.SampledFrom(append(printertest.Wicked(), "on", "y", "No", "~", "null", "1", "1e3", "0x1F", "0o7", "1_000", "12:30:45", ".inf", "=", "!a", "&a", "*a", "- a", "a: b", "a #b", "|", ">", "%a", "@a", "`a", "2024-01-02", "a\nb\n", " a ", "")))
	value := rapid.OneOf(
		rapid.Map(word, func(s string) any { return s }), rapid.Map(rapid.Int(), func(n int) any { return n }), rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Just[any](nil),
		rapid.Map(rapid.MapOf(word, word), func(m map[string]string) any { return m }), rapid.Map(rapid.SliceOf(word), func(s []string) any { return s }),
		rapid.Map(rapid.SliceOf(rapid.MapOf(word, rapid.SliceOf(word))), func(s []map[string][]string) any { return s }),
	)
	rapid.Check(t, func(t *rapid.T) {
		text, err := canon.JSON(rapid.MapOf(word, value).Draw(t, "document"))
		if err != nil {
			t.Fatal(err)
		}
		same(t, text)
	})
}

func same(t *rapid.T, text []byte) {
	out, err := yamlOf(text)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := printer.Fprint(printer.NewWriter(&b, false), out); err != nil {
		t.Fatal(err)
	}
	if why := printertest.Acts(b.String(), func(string) bool { return false }); why != "" {
		t.Fatalf("%s in\n%s", why, &b)
	}
	back, err := yaml.YAMLToJSONStrict(b.Bytes())
	if err != nil {
		t.Fatalf("%v in\n%s", err, &b)
	}
	if want, got := decoded(t, text), decoded(t, back); !reflect.DeepEqual(want, got) {
		t.Fatalf("got %s, want %s from\n%s", back, text, &b)
	}
}

func decoded(t *rapid.T, text []byte) any {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
