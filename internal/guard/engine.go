package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/policies"
)

// entry is the rule of a package that holds its findings.
const entry = "findings"

// Timeout bounds one Check, and a CheckObject for which nobody waits.
const Timeout = 10 * time.Second

// ObjectTimeout bounds a CheckObject for which an API server waits.
// With the time in which an evaluation may notice, it is less than a review has, so that
// the answer names the policy.
const ObjectTimeout = 500 * time.Millisecond

// Engine is a compiled set of policies. It is immutable and safe for concurrent use.
type Engine struct {
	rules    []policy // over a mesh
	objects  []policy // over an object of a cluster
	declared []Rule   // over objects, sorted by ID
	digest   string
	timeout  time.Duration
	left     *left
	crew     *crew
	// timed says that some rule of the user's may read the date.
	timed bool
	// elsewhere evaluates users' rules over objects, nil for this process.
	elsewhere Elsewhere
}

// policy is one evaluated package.
type policy struct {
	pkg   string
	pos   diag.Pos // zero for a shipped package
	query rego.PreparedEvalQuery
	// rules are those that a package over objects declares, by ID; nil for one over a mesh.
	rules map[string]Rule
}

// New compiles the shipped policies and, if user is not nil, the user's own.
// Files that are not *.rego and tests (*_test.rego) are left out. Problems of any
// file make the engine nil: a policy that cannot run must not be passed over.
func New(ctx context.Context, baseline, user fs.FS) (*Engine, diag.List) {
	base, problems := read("baseline", baseline)
	sets := []source{base}
	if user != nil {
		own, more := read(userSet, user)
		problems = append(problems, more...)
		problems = append(problems, checkPackages(own, base)...)
		if len(own.files) == 0 && len(more) == 0 {
			problems = append(problems, diag.New(diag.CodePolicyNone, diag.Pos{}, "the policy folder holds no policy").
				WithFix("add a *.rego file with package %s.<name>, or remove the folder", meshRoot))
		}
		sets = append(sets, own)
	}
	if !problems.HasErrors() {
		for _, s := range sets {
			problems = append(problems, checkEntries(s)...)
		}
	}
	if problems.HasErrors() {
		return nil, problems.Sorted()
	}
	declared, problems := declarations(sets)
	e, more := compile(ctx, sets)
	if problems = append(problems, more...); problems.HasErrors() {
		return nil, problems.Sorted()
	}
	if len(e.rules) == 0 {
		return nil, diag.List{nonePolicy()}
	}
	e.declare(declared)
	return e, nil
}

func nonePolicy() diag.Diagnostic {
	return diag.New(diag.CodePolicyNone, diag.Pos{}, "no policy was evaluated").
		WithFix("a check without policies proves nothing: give at least one package %s.<name>", meshRoot)
}

// compile links all sets and prepares one query for each evaluated package. Rules over
// a mesh and rules over an object see different inputs, so each kind is compiled by
// itself, with what it shares.
func compile(ctx context.Context, sets []source) (*Engine, diag.List) {
	e := &Engine{digest: digestOf(sets), timeout: Timeout, left: &left{}, crew: newCrew()}
	var problems, more diag.List
	var mesh, object bool
	e.rules, mesh, problems = compileKind(ctx, sets, meshRoot, policies.Schema)
	e.objects, object, more = compileKind(ctx, sets, objectRoot, policies.ObjectSchema)
	e.timed = mesh || object
	if problems = append(problems, more...); problems.HasErrors() {
		return nil, problems
	}
	return e, nil
}

// digestOf is SHA-256 over the sorted lines "set/file SP digest".
func digestOf(sets []source) string {
	var lines []string
	for _, s := range sets {
		for name := range s.files {
			lines = append(lines, s.label+"/"+name+" "+s.digests[name]+"\n")
		}
	}
	slices.Sort(lines)
	return canon.Digest([]byte(strings.Join(lines, "")))
}

// compileKind also says whether a module of the user's may read the date.
func compileKind(ctx context.Context, sets []source, root string, schema []byte) (rules []policy, timed bool, problems diag.List) {
	input, err := inputSchema(schema)
	if err != nil {
		return nil, false, diag.List{diag.New(diag.CodePolicyInvalid, diag.Pos{}, "%v", err)}
	}
	// Both guards against built-in functions: each was once a way round the other.
	//nolint:staticcheck // deprecated, but it is what catches a function named in "with".
	c := ast.NewCompiler().WithStrict(true).WithCapabilities(capabilities()).WithUnsafeBuiltins(forbidden()).
		WithSchemas(input).WithUseTypeCheckAnnotations(true).WithDefaultRegoVersion(ast.RegoV1)
	modules := map[string]*ast.Module{}
	places := map[string]diag.Pos{}
	libs := librariesOf(sets, root)
	for _, s := range sets {
		for name, m := range s.files {
			pkg := packageOf(m)
			if !under(pkg, root) && !libs[pkg] {
				continue
			}
			modules[s.label+"/"+name] = m.Copy() // a compiler rewrites its modules
			if under(pkg, root) {
				places[pkg] = diag.Pos{}
				if s.label == userSet {
					places[pkg] = diag.Pos{File: name, Line: m.Package.Location.Row, Col: m.Package.Location.Col}
				}
			}
		}
	}
	if c.Compile(modules); c.Failed() {
		return nil, false, regoErrors(c.Errors)
	}
	for name, m := range c.Modules {
		timed = timed || strings.HasPrefix(name, userSet+"/") && readsDate(m)
	}
	for _, pkg := range slices.Sorted(maps.Keys(places)) {
		q, err := rego.New(rego.Compiler(c), rego.Query("data."+pkg+"."+entry), rego.StrictBuiltinErrors(true),
			rego.Capabilities(capabilities()), rego.UnsafeBuiltins(forbidden())).PrepareForEval(ctx)
		if err != nil {
			return nil, false, diag.List{diag.New(diag.CodePolicyInvalid, places[pkg], "preparing policy %q: %v", pkg, err)}
		}
		rules = append(rules, policy{pkg: pkg, pos: places[pkg], query: q})
	}
	return rules, timed, nil
}

// readsDate reports whether a compiled module may look at the date of the input: at input.at,
// at a field of which only evaluation knows the name, or at the input as a whole.
func readsDate(m *ast.Module) bool {
	found := false
	ast.WalkRefs(m, func(r ast.Ref) bool {
		if r.HasPrefix(ast.InputRootRef) {
			name, named := ast.String(""), false
			if len(r) > 1 {
				name, named = r[1].Value.(ast.String)
			}
			found = found || !named || name == "at"
		}
		return found
	})
	return found
}

// inputSchema lets the compiler check every reference below input.
func inputSchema(schema []byte) (*ast.SchemaSet, error) {
	dec := json.NewDecoder(bytes.NewReader(schema))
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("reading the schema of the policy input: %w", err)
	}
	s := ast.NewSchemaSet()
	s.Put(ast.SchemaRootRef, doc)
	return s, nil
}

// Timeless reports whether no rule of the user's reads the date. Those that are shipped look
// at it only for what ends at one.
func (e *Engine) Timeless() bool { return !e.timed }

// Digest identifies the policies: SHA-256 over the sorted lines "set/file SP digest".
func (e *Engine) Digest() string { return e.digest }
