package intent

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

var update = flag.Bool("update", false, "rewrite want/ sections")

// Each archive holds a repository. The file env names the environment; want/diag
// is what Load says, absent means nothing; want/<dir>.json is compared if it is
// there ("root" for the top folder).
func TestLoad(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { runCase(t, name) })
	}
}

func runCase(t *testing.T, name string) {
	ar, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	repo, env, want := fstest.MapFS{}, "", map[string]*txtar.File{}
	for i, f := range ar.Files {
		switch {
		case f.Name == "env":
			env = strings.TrimSpace(string(f.Data))
		case strings.HasPrefix(f.Name, "want/"):
			want[f.Name] = &ar.Files[i]
		default:
			repo[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	tree, diags := source.Read(repo)
	in := &Intent{}
	if !diags.HasErrors() {
		var more diag.List
		in, more = Load(tree, Options{Environment: env})
		diags = append(diags, more...)
	}
	got := map[string][]byte{"want/diag": render(diags.Sorted())}
	for _, p := range in.Packages {
		name := "want/" + strings.ReplaceAll(p.Dir, "/", "_") + ".json"
		if p.Dir == "." {
			name = "want/root.json"
		}
		if got[name], err = canon.JSON(p.Mesh.value); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		write(t, name, ar, want, got)
		return
	}
	if want["want/diag"] == nil {
		want["want/diag"] = &txtar.File{}
	}
	for section, w := range want {
		if !bytes.Equal(bytes.TrimSpace(got[section]), bytes.TrimSpace(w.Data)) {
			t.Errorf("%s:\n%s\nwant:\n%s", section, got[section], w.Data)
		}
	}
}

func render(l diag.List) []byte {
	var b bytes.Buffer
	for _, d := range l {
		b.WriteString(d.String() + "\n")
	}
	return b.Bytes()
}

func write(t *testing.T, name string, ar *txtar.Archive, want map[string]*txtar.File, got map[string][]byte) {
	for section, f := range want {
		f.Data = got[section]
	}
	ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { return f.Name == "want/diag" })
	if len(got["want/diag"]) > 0 {
		ar.Files = append(ar.Files, txtar.File{Name: "want/diag", Data: got["want/diag"]})
	}
	if err := os.WriteFile(name, txtar.Format(ar), 0o600); err != nil {
		t.Fatal(err)
	}
}
