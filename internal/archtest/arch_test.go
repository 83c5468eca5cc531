package archtest

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pkg is what the go command says about a package.
type pkg struct {
	ImportPath, Dir, Name                              string
	GoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports, Deps           []string
}

func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
		}
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// root is the module's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("the module's folder is not %q: %v", dir, err)
	}
	return dir
}

func packages(t *testing.T) []pkg {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(goCommand(t, "list", "-json", "./..."))))
	var out []pkg
	for {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("reading the list of packages: %v", err)
		}
		out = append(out, p)
	}
	if len(out) < 5 {
		t.Fatalf("only %d packages listed", len(out))
	}
	return out
}

// standard: the first element of a standard package's path has no dot.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".")
}

func TestImportsFollowTheLattice(t *testing.T) {
	for _, p := range packages(t) {
		r, ok := rowOf(p.ImportPath)
		if !ok {
			t.Errorf("%s has no row in the lattice: say in lattice_test.go what it may import", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			if why := r.refuses(i); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, i, why)
			}
		}
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			if !standard(i) && !fits(module, i) && r.refuses(i) != "" && !anyFits(slices.Concat(r.tests, testTools()), i) {
				t.Errorf("a test of %s imports %s: neither the package nor every test may", p.ImportPath, i)
			}
		}
	}
}

func anyFits(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pat string) bool { return fits(pat, p) })
}

// refuses says why the row does not allow an import, "" if it does.
func (r row) refuses(i string) string {
	if standard(i) {
		if r.pure && slices.Contains(impure(), i) {
			return "the package is pure"
		}
		return ""
	}
	if i == module+"/internal/diag" || i == module+"/internal/printer" || anyFits(r.may, i) {
		return ""
	}
	return "not in its row of the lattice"
}

func TestWhatIsLinkedIn(t *testing.T) {
	for _, p := range packages(t) {
		for name, refused := range links() {
			if !fits(name, p.ImportPath) {
				continue
			}
			for _, d := range p.Deps {
				for bad, why := range refused {
					if d == bad || strings.HasPrefix(d, bad+"/") {
						t.Errorf("%s links %s: %s", p.ImportPath, d, why)
					}
				}
			}
		}
	}
}

// The lattice itself: no row stands twice, and what it refuses is refused.
func TestTheLatticeRefuses(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range lattice() {
		if seen[r.pkg] && !slices.Contains(targets(), r.pkg) {
			t.Errorf("two rows for %s", r.pkg)
		}
		seen[r.pkg] = true
	}
	for from, to := range map[string]string{
		"compiler/internal/model":             module + "/compiler/internal/target/envoy",
		"compiler/internal/feature/retries":   module + "/compiler/internal/feature/headers",
		"compiler/internal/feature/timeouts":  cueLang + "/cue",
		"compiler/internal/eval":              module + "/compiler/internal/prove",
		"compiler/internal/plan":              "os",
		"compiler/internal/target/gatewayapi": module + "/compiler/internal/target/envoy",
		"xds-server/internal/stream":          module + "/internal/feed",
		"xds-server/internal/endpoints/file":  kubeClient + "/kubernetes",
		"internal/approval":                   module + "/compiler",
		"internal/diag":                       module + "/internal/canon",
		"internal/envoybin":                   module + "/compiler",
		"cmd/meshc-agent":                     module + "/internal/cli",
	} {
		r, ok := rowOf(module + "/" + from)
		if !ok || r.refuses(to) == "" {
			t.Errorf("%s may import %s (row %q)", from, to, r.pkg)
		}
	}
	if _, ok := rowOf(module + "/internal/util"); ok {
		t.Error("a package that nobody placed has a row")
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		documented := false
		files := p.GoFiles
		if len(files) == 0 {
			files = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		}
		for _, f := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatalf("parsing %s: %v", f, err)
			}
			documented = documented || parsed.Doc.Text() != ""
		}
		if !documented {
			t.Errorf("%s has no package comment: say what comes in, what goes out, what always holds", p.ImportPath)
		}
	}
}

// A replace directive would make "go install …@version" fail.
func TestModuleIsInstallable(t *testing.T) {
	var mod struct{ Replace, Exclude []any }
	if err := json.Unmarshal(goCommand(t, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace)+len(mod.Exclude) > 0 {
		t.Errorf("go.mod has replace %v, exclude %v", mod.Replace, mod.Exclude)
	}
}

// forbidden are texts that would tie the repository to one machine or to one
// mirror of a registry. They are put together here, so that this file has none.
func forbidden() map[string]*regexp.Regexp {
	hosts := []string{"pypi" + `\.org`, "python" + `hosted\.org`, `proxy\.` + `golang\.org`, `goproxy\.` + `(io|cn)`, `sum\.` + `golang\.org`, `registry\.` + `npmjs`}
	folders := []string{"root", "home", "Users", "work"}
	return map[string]*regexp.Regexp{
		"a path of one machine": regexp.MustCompile("(?m)(^|[\\s\"'`=(:])/(" + strings.Join(folders, "|") + ")/[A-Za-z0-9._-]+"),
		"a registry's host":     regexp.MustCompile(strings.Join(hosts, "|")),
	}
}

func TestNothingIsTiedToAMachine(t *testing.T) {
	dir := root(t)
	checked := 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", ".cache"}, rel) {
				return filepath.SkipDir
			}
			return nil
		}
		if !textFile(d) {
			return nil
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		checked++
		for what, re := range forbidden() {
			if m := re.Find(raw); m != nil {
				t.Errorf("%s holds %s: %q", rel, what, m)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 20 {
		t.Errorf("only %d files looked at", checked)
	}
}

func textFile(d fs.DirEntry) bool {
	kinds := []string{".go", ".md", ".mod", ".cue", ".rego", ".yaml", ".yml", ".json", ".txtar", ".txt", ".sh", ".html", ""}
	return d.Type().IsRegular() && slices.Contains(kinds, filepath.Ext(d.Name()))
}
