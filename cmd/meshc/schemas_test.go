package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// published are the schemas of docs/schemas by kind, closed: a field that they do not
// know is one that nobody documented.
var published = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	files, err := filepath.Glob("../../docs/schemas/*.json")
	if err != nil || len(files) < 10 {
		return nil, fmt.Errorf("%d schemas: %w", len(files), err)
	}
	out := map[string]*jsonschema.Schema{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft2020)
		c.AssertFormat()
		if err := c.AddResource(file, closed(doc)); err != nil {
			return nil, err
		}
		kind := strings.TrimSuffix(filepath.Base(file), ".json")
		if out[kind], err = c.Compile(file); err != nil {
			return nil, err
		}
	}
	return out, nil
})

// closed is a schema whose objects have no other fields than it names.
func closed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = closed(v[k])
		}
		if _, names := v["properties"].(map[string]any); names && v["type"] == "object" {
			v["additionalProperties"] = false
		}
	case []any:
		for i := range v {
			v[i] = closed(v[i])
		}
	}
	return v
}

// documentForm is the form of the document that a command line asks for, "" for none.
func documentForm(line []string) string {
	if line[0] != "meshc" {
		return ""
	}
	asked := regexp.MustCompile(`(^| )(-o|--output)[ =]?(json|yaml)( |$)`).FindStringSubmatch(strings.Join(line, " "))
	if asked == nil {
		return ""
	}
	return asked[3]
}

// wrongDocument says in which way a text is no document of a published schema.
func wrongDocument(text, form string) error {
	raw := []byte(text)
	if form == "yaml" {
		var err error
		if raw, err = yaml.YAMLToJSONStrict(raw); err != nil {
			return err
		}
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("not one document: %w: %.100q", err, text)
	}
	fields, _ := doc.(map[string]any)
	name, _ := fields["format"].(string)
	of := regexp.MustCompile(`^meshc\.dev/([a-z-]+)/v1$`).FindStringSubmatch(name)
	if of == nil {
		return fmt.Errorf("the format %q is not meshc.dev/KIND/v1", name)
	}
	schemas, err := published()
	if err != nil {
		return err
	}
	if schemas[of[1]] == nil {
		return fmt.Errorf("no schema of %q is published", of[1])
	}
	return schemas[of[1]].Validate(doc)
}

// The check of documents finds what is wrong with one.
func TestWrongDocuments(t *testing.T) {
	good := `{"format":"meshc.dev/version/v1","meshc":"v1","schema":"x","digest":"0","go":"go1","platform":"linux/amd64"}`
	if err := wrongDocument(good, "json"); err != nil {
		t.Error(err)
	}
	if err := wrongDocument(good, "yaml"); err != nil {
		t.Error(err) // JSON is YAML
	}
	for name, text := range map[string]string{
		"nothing": "", "two": good + good, "no format": `{}`, "another format": `{"format":"meshc.dev/other/v1"}`, "an array": `[]`,
		"a field more": strings.Replace(good, `"go"`, `"more":1,"go"`, 1), "a field less": strings.Replace(good, `"go":"go1",`, "", 1), "another type": strings.Replace(good, `"v1"`, `1`, 1),
	} {
		if wrongDocument(text, "json") == nil {
			t.Errorf("%s: accepted %s", name, text)
		}
	}
	if documentForm([]string{"meshc", "vet", "-o", "json"}) != "json" || documentForm([]string{"meshc", "vet", "--output=yaml", "x"}) != "yaml" || documentForm([]string{"meshc", "vet", "-o", "jsonl"}) != "" || documentForm([]string{"git", "-o", "json"}) != "" {
		t.Error("forms are not recognised")
	}
}

// Scripts let every document be checked: `exec` alone would not.
func TestScriptsCheckDocuments(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	unchecked := regexp.MustCompile(`(?m)^[!? ]*exec meshc .*(-o|--output)[ =]?(json|yaml)`)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range unchecked.FindAllString(string(text), -1) {
			t.Errorf("%s: %s: write ends CODE in place of exec", f, line)
		}
	}
}
