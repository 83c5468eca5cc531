package importer_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/importer"
)

// hostile are cases, by their paths below testdata, with what reads them.
func hostile() map[string]func([]importer.Input) (importer.Result, error) {
	out := map[string]func([]importer.Input) (importer.Result, error){}
	for _, name := range []string{"shop", "order", "filters", "https"} {
		out["gateway-api/"+name] = func(in []importer.Input) (importer.Result, error) { return importer.GatewayAPI(in, check) }
	}
	for _, name := range []string{"thread", "routes", "gateway", "access", "tuning"} {
		out["istio/"+name] = func(in []importer.Input) (importer.Result, error) {
			return importer.Istio(in, importer.Answer{}, check)
		}
	}
	return out
}

// documents are those of a case of testdata.
func documents(t *testing.T, name string) []*yaml.Node {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*yaml.Node
	for _, f := range txtar.Parse(raw).Files {
		if strings.HasPrefix(f.Name, "want/") {
			continue
		}
		for d := yaml.NewDecoder(bytes.NewReader(f.Data)); ; {
			var doc yaml.Node
			if err := d.Decode(&doc); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			out = append(out, &doc)
		}
	}
	return out
}

func written(t *testing.T, docs []*yaml.Node) []importer.Input {
	t.Helper()
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	for _, d := range docs {
		if err := e.Encode(d); err != nil {
			t.Fatal(err)
		}
	}
	return []importer.Input{{Name: "x.yaml", Text: b.Bytes()}}
}

// walk visits every node below one, with the names before it.
func walk(y *yaml.Node, path []string, visit func(y *yaml.Node, path []string)) {
	visit(y, path)
	for i, c := range y.Content {
		switch {
		case y.Kind == yaml.MappingNode && i%2 == 1:
			walk(c, append(slices.Clip(path), y.Content[i-1].Value), visit)
		case y.Kind != yaml.MappingNode:
			walk(c, path, visit)
		}
	}
}

// anything holds names of the writer's own, or what an API server writes.
func anything(path []string) bool {
	return slices.ContainsFunc(path, func(name string) bool {
		return slices.Contains([]string{"labels", "annotations", "matchLabels", "status", "sourceLabels", "headers", "withoutHeaders", "queryParams", "set", "add", "portLevelMtls"}, name)
	}) || slices.Equal(path, []string{"spec", "selector"}) || slices.Equal(path, []string{"spec", "endpoints", "ports"})
}

// apart is a workload: what it says of traffic is read, and the rest of it is nobody's business.
func apart(doc *yaml.Node) bool {
	at := slices.IndexFunc(doc.Content[0].Content, func(y *yaml.Node) bool { return y.Value == "kind" })
	return slices.Contains([]string{"Deployment", "Pod"}, doc.Content[0].Content[at+1].Value)
}

// A field that nobody knows is told, wherever it stands.
func TestEveryFieldIsAccountedFor(t *testing.T) {
	tried := 0
	for name, imports := range hostile() {
		docs := documents(t, name)
		for _, doc := range docs {
			walk(doc, nil, func(y *yaml.Node, path []string) {
				if y.Kind != yaml.MappingNode || anything(path) || apart(doc) {
					return
				}
				kept := y.Content
				y.Content = append(slices.Clip(kept), &yaml.Node{Kind: yaml.ScalarNode, Value: "zz"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "1"})
				res, err := imports(written(t, docs))
				y.Content = kept
				if tried++; err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(res.Findings, func(d diag.Diagnostic) bool {
					return d.Code == diag.CodeImportField && strings.Contains(d.Text, "zz is not a field")
				}) {
					t.Errorf("%s: zz in %s is not told", name, strings.Join(path, "."))
				}
			})
		}
	}
	if tried < 100 {
		t.Errorf("only %d places were tried", tried)
	}
}

// What stands in place of a value, or is missing, never ends the import, and what is written
// compiles.
func TestOddValues(t *testing.T) {
	odd := []*yaml.Node{
		nil, // taken out
		{Kind: yaml.ScalarNode, Value: "", Tag: "!!null"},
		{Kind: yaml.ScalarNode, Value: "", Style: yaml.DoubleQuotedStyle},
		{Kind: yaml.ScalarNode, Value: "-1"},
		{Kind: yaml.ScalarNode, Value: "99999999999999999999"},
		{Kind: yaml.ScalarNode, Value: "*.*/\"\\(x)\n", Style: yaml.DoubleQuotedStyle},
		{Kind: yaml.SequenceNode},
		{Kind: yaml.MappingNode},
	}
	for name, imports := range hostile() {
		docs := documents(t, name)
		at := 0
		for _, doc := range docs {
			walk(doc, nil, func(y *yaml.Node, path []string) {
				if y.Kind != yaml.MappingNode {
					return
				}
				for i := 1; i < len(y.Content); i += 2 {
					at++
					kept := y.Content
					if o := odd[at%len(odd)]; o == nil {
						y.Content = slices.Concat(kept[:i-1], kept[i+1:])
					} else {
						y.Content = slices.Concat(kept[:i], []*yaml.Node{o}, kept[i+1:])
					}
					res, err := imports(written(t, docs))
					y.Content = kept
					if err != nil {
						t.Fatalf("%s: odd value %d for %s.%s: %v", name, at%len(odd), strings.Join(path, "."), kept[i-1].Value, err)
					}
					for _, d := range res.Findings {
						if d.Pos.File == "" || d.Pos.Line == 0 || d.Fix == "" {
							t.Errorf("%s: %s has no place, or no way out", name, d)
						}
					}
				}
			})
		}
	}
}
