package guard

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// MaxFile is the largest policy file that is read, in bytes.
const MaxFile = 1 << 20

// Rules of these packages are evaluated, over a mesh and over an object of a cluster,
// and the last hold what rules share.
const (
	meshRoot   = "meshc.mesh"
	objectRoot = "meshc.object"
	libRoot    = "meshc.lib"
)

// evaluated reports whether the rules of a package are asked.
func evaluated(pkg string) bool { return under(pkg, meshRoot) || under(pkg, objectRoot) }

// source is one set of policies.
type source struct {
	// label keeps the module names of two sets apart.
	label string
	// files maps file name to what it holds.
	files map[string]*ast.Module
	// digests maps file name to digest.
	digests map[string]string
}

// userSet is the label of the user's own policies.
const userSet = "user"

// names are the files of the set, sorted.
func (s source) names() []string { return slices.Sorted(maps.Keys(s.files)) }

// read parses every *.rego of fsys but tests. The names of its modules are the
// paths in fsys, so that problems point into the user's files.
func read(label string, fsys fs.FS) (source, diag.List) {
	s := source{label: label, files: map[string]*ast.Module{}, digests: map[string]string{}}
	var problems diag.List
	err := walk(fsys, func(name string, d fs.DirEntry) error {
		if !d.Type().IsRegular() {
			problems = append(problems, diag.New(diag.CodePolicyInvalid, diag.Pos{File: name}, "policy %q is no regular file", name).
				WithFix("put the policy's text into the folder; links are not followed"))
			return nil
		}
		problems = append(problems, s.add(fsys, name)...)
		return nil
	})
	if err != nil {
		problems = append(problems, diag.New(diag.CodePolicyInvalid, diag.Pos{}, "reading %s policies: %v", label, err).
			WithFix("make the policy folder readable"))
	}
	return s, problems
}

// Files are the names of the policy files in fsys that New compiles, in order.
func Files(fsys fs.FS) ([]string, error) {
	var names []string
	err := walk(fsys, func(name string, _ fs.DirEntry) error {
		names = append(names, name)
		return nil
	})
	return names, err
}

// walk visits every *.rego of fsys but tests.
func walk(fsys fs.FS, visit func(name string, d fs.DirEntry) error) error {
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".rego" || strings.HasSuffix(name, "_test.rego") {
			return err
		}
		return visit(name, d)
	})
}

func (s source) add(fsys fs.FS, name string) diag.List {
	if info, err := fs.Stat(fsys, name); err == nil && info.Size() > MaxFile {
		return diag.List{diag.New(diag.CodePolicyInvalid, diag.Pos{File: name}, "policy has %d bytes, more than %d", info.Size(), MaxFile).
			WithFix("split it")}
	}
	raw, err := fs.ReadFile(fsys, name)
	if err != nil {
		return diag.List{diag.New(diag.CodePolicyInvalid, diag.Pos{File: name}, "reading policy: %v", err).WithFix("make the file readable")}
	}
	if strings.TrimSpace(string(raw)) == "" {
		return diag.List{diag.New(diag.CodePolicyPackage, diag.Pos{File: name, Line: 1}, "policy file is empty").WithFix("write rules, or delete the file")}
	}
	m, err := ast.ParseModuleWithOpts(name, string(raw), ast.ParserOptions{
		RegoVersion: ast.RegoV1, ProcessAnnotation: true, Capabilities: capabilities(),
	})
	if err != nil {
		return regoErrors(err)
	}
	s.files[name], s.digests[name] = m, canon.Digest(raw)
	return nil
}

// packageOf is the module's package without "data.".
func packageOf(m *ast.Module) string { return strings.TrimPrefix(m.Package.Path.String(), "data.") }

func under(pkg, root string) bool { return strings.HasPrefix(pkg, root+".") }

// related reports whether one package is the other or lies inside it.
func related(a, b string) bool { return a == b || under(a, b) || under(b, a) }

// checkPackages finds files that would never be evaluated, and files of the user
// that reach into shipped packages.
func checkPackages(user, baseline source) diag.List {
	var problems diag.List
	for name, m := range user.files {
		pkg := packageOf(m)
		at := diag.Pos{File: name, Line: m.Package.Location.Row, Col: m.Package.Location.Col}
		if !evaluated(pkg) && !under(pkg, libRoot) {
			problems = append(problems, diag.New(diag.CodePolicyPackage, at, "package %q is never evaluated", pkg).
				WithFix("write: package %s.<name> (%s.<name> for rules over objects of a cluster, %s.<name> for what rules share)", meshRoot, objectRoot, libRoot))
			continue
		}
		for _, other := range baseline.files {
			if theirs := packageOf(other); related(pkg, theirs) {
				problems = append(problems, diag.New(diag.CodePolicyPackage, at, "package %q reaches into the shipped package %q", pkg, theirs).
					WithFix("choose another name below %s", meshRoot))
				break
			}
		}
	}
	return problems
}

// checkEntries wants a rule "findings" in every evaluated package.
func checkEntries(s source) diag.List {
	var problems diag.List
	has := map[string]bool{}
	for _, m := range s.files {
		has[packageOf(m)] = has[packageOf(m)] || slices.ContainsFunc(m.Rules, isEntry)
	}
	for name, m := range s.files {
		if pkg := packageOf(m); evaluated(pkg) && !has[pkg] {
			at := diag.Pos{File: name, Line: m.Package.Location.Row, Col: m.Package.Location.Col}
			problems = append(problems, diag.New(diag.CodePolicyPackage, at, "package %q has no rule %q, so nothing of it is evaluated", pkg, entry).
				WithFix("write: %s contains {\"id\": …, \"path\": …, \"severity\": \"deny\", \"msg\": …, \"fix\": …} if …", entry))
		}
	}
	return problems
}

// invented are the names that OPA gives to variables of its own.
var invented = regexp.MustCompile(`\[__local[0-9]+__\]`)

// regoErrors turns OPA's errors into problems at their lines.
func regoErrors(err error) diag.List {
	var list ast.Errors
	if !errors.As(err, &list) {
		var one *ast.Error
		if !errors.As(err, &one) {
			return diag.List{diag.New(diag.CodePolicyInvalid, diag.Pos{}, "policy: %v", err)}
		}
		list = ast.Errors{one}
	}
	var problems diag.List
	for _, e := range list {
		var p diag.Pos
		if e.Location != nil {
			p = diag.Pos{File: e.Location.File, Line: e.Location.Row, Col: e.Location.Col}
		}
		text := invented.ReplaceAllString(e.Message, "[_]")
		if e.Details != nil {
			for _, line := range e.Details.Lines() { // the others repeat the user's line, with a mark under it
				if line = strings.TrimSpace(line); strings.HasPrefix(line, "have") || strings.HasPrefix(line, "want") {
					text += "; " + line
				}
			}
		}
		problems = append(problems, diag.New(diag.CodePolicyInvalid, p, "%s", text).WithFix("%s", fixFor(e.Message)))
	}
	return problems
}

func fixFor(msg string) string {
	switch {
	case strings.Contains(msg, "undefined function"):
		return "policies have no network, clock, environment or randomness (the date is input.at), nor functions that cannot be stopped; docs/admission.md says which"
	case strings.Contains(msg, "undefined ref"):
		return "the fields of the input are listed in policies/input.schema.json, for rules over objects in policies/object.schema.json"
	}
	return "correct the rule; `opa check --strict` reports the same"
}
