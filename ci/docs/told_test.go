package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources are the files of meshc and meshc-agent, without tests and without what runs only
// in tests and demos.
func sources(t *testing.T) (out []*ast.File) {
	t.Helper()
	set := token.NewFileSet()
	for _, dir := range []string{"cmd", "compiler", "internal", "webhook", "xds-server"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains([]string{"testdata", "kubetest", "bookinfo", "demo"}, d.Name()):
				return fs.SkipDir
			case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			out = append(out, f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// logged are the messages in a file and their levels; "" where the level is a variable.
func logged(f *ast.File) map[string][]string {
	out := map[string][]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !isLogger(sel.X) {
			return true
		}
		level, at := map[string]string{"Info": "INFO", "Warn": "WARN", "Error": "ERROR"}[sel.Sel.Name], 0
		if sel.Sel.Name == "Log" || sel.Sel.Name == "LogAttrs" {
			at = 2
		} else if level == "" {
			return true // a detail for developers
		}
		if at < len(call.Args) {
			if msg, ok := text(call.Args[at]); ok {
				out[msg] = append(out[msg], level)
			}
		}
		return true
	})
	return out
}

// isLogger goes by the name, which is log or Log everywhere.
func isLogger(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log"
	case *ast.SelectorExpr:
		return e.Sel.Name == "log" || e.Sel.Name == "Log"
	}
	return false
}

var metricName = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// measured are the names of metrics in a file: a name beside its help text, in a call or in
// a literal with Name and Help, or a whole name. Prefixes may be missing.
func measured(f *ast.File) (out []string) {
	name := func(e ast.Expr) {
		if s, ok := text(e); ok && metricName.MatchString(s) {
			out = append(out, s)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if len(n.Args) > 1 && slices.ContainsFunc(n.Args[1:], isHelp) {
				name(n.Args[0])
			}
		case *ast.CompositeLit:
			var named ast.Expr
			help := false
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Name" {
						named = kv.Value
					} else if ok && key.Name == "Help" {
						help = true
					}
				}
			}
			if named != nil && help {
				name(named)
			}
		case *ast.BasicLit:
			if s, ok := text(n); ok && strings.HasPrefix(s, "meshc_") {
				name(n)
			}
		}
		return true
	})
	return out
}

// isHelp reports whether it is a sentence, as the help of every metric is.
func isHelp(e ast.Expr) bool {
	s, ok := text(e)
	return ok && strings.Contains(s, " ") && (strings.HasSuffix(s, ".") || strings.HasSuffix(s, "why.") || strings.HasSuffix(s, "what."))
}

// meters are files that define metrics: those of Prometheus' library, and the agent's page.
func meters(f *ast.File) bool {
	for _, i := range f.Imports {
		if i.Path.Value == `"github.com/prometheus/client_golang/prometheus"` {
			return true
		}
	}
	return f.Name.Name == "agent" && slices.ContainsFunc(f.Decls, func(d ast.Decl) bool {
		fn, ok := d.(*ast.FuncDecl)
		return ok && fn.Name.Name == "metrics"
	})
}

// Every metric and every line of the log that asks something stands in docs/operating.md,
// and nothing else does.
func TestOperatingNamesWhatIsTold(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(top, "docs/operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	var metrics []string
	messages := map[string][]string{}
	for _, f := range sources(t) {
		if meters(f) {
			metrics = append(metrics, measured(f)...)
		}
		for msg, levels := range logged(f) {
			messages[msg] = append(messages[msg], levels...)
		}
	}
	if len(metrics) < 40 || len(messages) < 70 {
		t.Errorf("only %d metrics and %d messages are found", len(metrics), len(messages))
	}
	for _, d := range undocumented(page, metrics, messages) {
		t.Error(d)
	}
}

var (
	pageMetric = regexp.MustCompile("`(meshc_[a-z_]+)`")
	pageLine   = regexp.MustCompile("(?m)^\\| (INFO|WARN|ERROR) \\| `([^`]+)` \\|")
)

// undocumented says where a page and the code differ.
func undocumented(page string, metrics []string, messages map[string][]string) (out []string) {
	var said []string
	for _, m := range pageMetric.FindAllStringSubmatch(page, -1) {
		said = append(said, m[1])
	}
	is := func(whole, name string) bool { return whole == name || strings.HasSuffix(whole, "_"+name) }
	for _, name := range metrics {
		if !slices.ContainsFunc(said, func(whole string) bool { return is(whole, name) }) {
			out = append(out, "the page does not name the metric "+name)
		}
	}
	for _, whole := range said {
		if !slices.ContainsFunc(metrics, func(name string) bool { return is(whole, name) }) {
			out = append(out, "there is no metric "+whole)
		}
	}
	lines := map[string][]string{}
	for _, m := range pageLine.FindAllStringSubmatch(page, -1) {
		lines[m[2]] = append(lines[m[2]], m[1])
	}
	for msg, levels := range messages {
		if len(lines[msg]) == 0 {
			out = append(out, "the page does not have the message "+strconv.Quote(msg))
		} else if !slices.ContainsFunc(levels, func(l string) bool { return l == "" || l == lines[msg][0] }) {
			out = append(out, "the page has another level for "+strconv.Quote(msg))
		}
	}
	for msg := range lines {
		if messages[msg] == nil {
			out = append(out, "nobody logs "+strconv.Quote(msg))
		}
	}
	slices.Sort(out)
	return out
}

// What is missing, or too much, is found.
func TestUndocumentedIsFound(t *testing.T) {
	const src = `package x
func f() {
	log.Info("one")
	s.cfg.Log.Error("two", "a", 1)
	log.Log(ctx, level, "three")
	log.Debug("four")
	gauge("a_b", "Things there are.")
	prometheus.GaugeOpts{Name: "c", Help: "Others."}
	prometheus.NewDesc("meshc_d", help, nil, nil)
	strings.Cut("no", "x")
}`
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := undocumented("| ERROR | `one` | x |\n| INFO | `five` | |\n`meshc_x_a_b` `meshc_e`", measured(f), logged(f))
	want := []string{
		`nobody logs "five"`, `the page does not have the message "three"`, `the page does not have the message "two"`,
		"the page does not name the metric c", "the page does not name the metric meshc_d", `the page has another level for "one"`, "there is no metric meshc_e",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %q", got)
	}
}
