package compiler

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// Version is the compiler's version, noted in every manifest. Two versions may
// make different bytes of the same intent; one version never does.
const Version = "0.1.0"

// Cache keeps evaluated packages between runs, by digest of everything they
// depend on. What it returns is checked; a corrupt entry is a miss.
type Cache = intent.Cache

// Source is the files of a repository that make up its intent: read, counted and
// checked, but not evaluated. Read only.
type Source = source.Tree

// Job is one package of a Source, for Options.Evaluate.
type Job = intent.Job

// Enforcement is what intent lets through in a cluster although rules over objects
// refuse it.
func (p *Program) Enforcement() release.Enforcement { return p.result.Enforcement }

// Exception is a temporary weakening in force, with who answers for it.
type Exception = resolve.Exception

// Package is a package of the intent, who answers for it and which files make it.
type Package = resolve.Package

// EnvironmentOf is the environment whose file it is, if it is one's.
func EnvironmentOf(file string) (env string, ok bool) { return intent.EnvironmentOf(file) }

// OverlayFolder is the folder whose files join the package in dir in an environment.
func OverlayFolder(env, dir string) string { return intent.OverlayFolder(env, dir) }

// Options says what a compile depends on beside the files.
type Options struct {
	// Environment is the environment's name; "" takes the only one.
	Environment string
	// At is the compile date: what ended before it is left out.
	At time.Time
	// Cache may be nil. Workers bounds the packages evaluated at once; 0 means one per core.
	Cache   Cache
	Workers int
	// Evaluate, if set, has packages evaluated elsewhere, such as by a child with
	// limits: it returns what the function Evaluate makes of the encoded job, or why
	// there is no answer. It is called from several goroutines.
	Evaluate func(Job) ([]byte, diag.List)
	// Render, if set, has kustomize's files applied elsewhere, such as by a child with
	// limits: it returns what the function Render makes of the encoded job, or why there
	// is no answer.
	Render func(job []byte) ([]byte, diag.List)
	// Memo makes the next compile of nearly the same files fast; may be nil.
	Memo *Memo
	// Policy is what will judge the result.
	Policy Policy
}

// Policy is the policies of a compile, as far as a release knows of them.
type Policy struct {
	// Digest names them all, for the manifest.
	Digest string
	// Rules are the user's own files, below release.PoliciesFolder and sorted by path. They are part
	// of a release with objects for a cluster, where they go on judging.
	Rules []release.Artifact
}

// Program is a linked mesh with everything that can be asked of it. Immutable.
type Program struct {
	intent    *intent.Intent // nil if it was opened from a release
	mesh      *model.Mesh
	form      meshForm
	result    *resolve.Result
	inputs    release.Inputs
	positions release.Positions
	memo      *Memo
	patches   *patches // nil for none
	rules     []release.Artifact
	lost      []release.Loss // of a release; those of intent are asked for
}

// Read reads the intent in fsys. It counts before it reads, and evaluates nothing.
// With an error in the list the Source must not be compiled.
func Read(fsys fs.FS) (Source, diag.List) {
	t, ds := source.Read(fsys)
	return t, ds.Sorted()
}

// Evaluate does an encoded Job, and returns its encoded answer for the Load that
// made the job. It takes whatever time and memory the intent wants.
func Evaluate(job []byte) ([]byte, error) { return intent.Evaluate(job) }

// Load is Read and LoadSource.
func Load(fsys fs.FS, o Options) (*Program, diag.List) {
	s, ds := Read(fsys)
	if ds.HasErrors() {
		return nil, ds
	}
	p, more := LoadSource(s, o)
	return p, append(ds, more...).Sorted()
}

// Environments are the names of the environments that intent declares, sorted. What is
// wrong with it is not told: Load does.
func Environments(s Source, o Options) []string {
	return intent.Environments(s, intent.Options{Cache: o.Cache, Workers: o.Workers, Evaluate: o.Evaluate})
}

// LoadSource evaluates and links intent. With an error in the list the Program is
// nil; warnings stand beside a usable one.
func LoadSource(s Source, o Options) (*Program, diag.List) {
	in, ds := intent.Load(s, intent.Options{Environment: o.Environment, Cache: o.Cache, Workers: o.Workers, Evaluate: o.Evaluate})
	if ds.HasErrors() {
		return nil, ds
	}
	p, more := link(in, o.At, o.Policy.Digest, o.Memo)
	if p != nil {
		p.patches, p.rules = patchesOf(s, in.Environment, o.Render), o.Policy.Rules
	}
	return p, append(ds, more...).Sorted()
}

// At is what LoadSource gives for the same files and another date: only linking looks at
// the date, so nothing is evaluated again. With a Memo it costs what the date
// changes. What evaluation warned of is not told again. A Program that was opened
// from a release has no intent to link again: then At panics.
func (p *Program) At(at time.Time) (*Program, diag.List) {
	if p.intent == nil {
		panic("compiler: At of a program without intent")
	}
	later, ds := link(p.intent, at, p.inputs.Policy, p.memo)
	if later != nil {
		later.patches, later.rules = p.patches, p.rules
	}
	return later, ds
}

func link(in *intent.Intent, at time.Time, policy string, memo *Memo) (*Program, diag.List) {
	p, ds := linked(in, at, policy, memo)
	if p == nil {
		return nil, ds
	}
	if ds = append(ds, p.nevers()...); ds.HasErrors() {
		return nil, ds.Sorted()
	}
	return p, ds
}

// linked is link before anybody asks what must never be allowed.
func linked(in *intent.Intent, at time.Time, policy string, memo *Memo) (*Program, diag.List) {
	res, ds := resolve.Mesh(in, catalog.Rules(), catalog.ConditionWords(), at, memo.link())
	if ds.HasErrors() {
		return nil, ds
	}
	for _, d := range eval.Doubts(res.Mesh, catalog.Meaning()) {
		at, _ := res.Positions.At(d.Route)
		behind, _ := res.Positions.At(d.At)
		what := "the route"
		if !strings.Contains(d.Route, "/route/") {
			what = "the service's proxy"
		}
		ds = append(ds, diag.New(diag.CodeBehind, at, "%s changes requests, and which of them something behind it takes cannot be told: %s", what, d.Why).
			WithRelated(behind, "behind it").WithFix("set or remove a header instead of adding to it, move a path by `path` or `prefix`, or test something else behind the route"))
	}
	if ds.HasErrors() {
		return nil, ds.Sorted()
	}
	p, err := memo.program(res.Mesh)
	if err != nil {
		return nil, append(ds, internalError(err))
	}
	p.intent, p.result, p.positions = in, res, res.Positions
	p.inputs = release.Inputs{Environment: in.Environment, Tree: in.Tree, Compiler: Version, Schema: schemas.Digest(), Policy: policy,
		At: at.UTC().Format(time.RFC3339)}
	return p, ds
}

// Open reads the mesh of a release: what a server, or a plan against an old
// release, can ask without the intent. Tests and expiries are not in a release.
func Open(r release.Release) (*Program, error) {
	raw, ok := r.Artifact(release.MeshPath)
	if !ok {
		return nil, fmt.Errorf("opening release %.12s: it has no %s", r.Digest(), release.MeshPath)
	}
	m, err := model.Decode(raw, catalog.Codecs())
	if err != nil {
		return nil, fmt.Errorf("opening release %.12s: %w", r.Digest(), err)
	}
	p, err := newProgram(m)
	if err != nil {
		return nil, fmt.Errorf("opening release %.12s: %w", r.Digest(), err)
	}
	terms, err := r.Enforcement()
	if err != nil {
		return nil, fmt.Errorf("opening release %.12s: %w", r.Digest(), err)
	}
	if p.lost, err = r.Losses(); err != nil {
		return nil, fmt.Errorf("opening release %.12s: %w", r.Digest(), err)
	}
	lines := r.Provenance()
	p.result, p.positions, p.inputs = &resolve.Result{Mesh: m, Enforcement: terms}, release.NewPositions(nil, &lines), r.Inputs()
	return p, nil
}

func newProgram(m *model.Mesh) (*Program, error) { return (*Memo)(nil).program(m) }

func (m *Memo) program(mesh *model.Mesh) (*Program, error) {
	form, err := m.meshForm(mesh)
	if err != nil {
		return nil, err
	}
	return &Program{mesh: mesh, form: form, memo: m}, nil
}

func internalError(err error) diag.Diagnostic {
	return diag.New(diag.CodeInternal, diag.Pos{}, "%v", err).WithFix("this is a defect of meshc: please report it with the intent that shows it")
}

// Release compiles the mesh for all its targets. With an error in the list the
// release is empty.
func (p *Program) Release() (release.Release, diag.List) { return p.without(nil) }

// without is Release without the Envoy snapshots of some classes.
func (p *Program) without(classes map[string]bool) (release.Release, diag.List) {
	out, ds := p.output(classes)
	if ds.HasErrors() {
		return release.Release{}, ds
	}
	r, err := p.memo.seal(out.Artifacts, out.Inputs, out.Provenance())
	if err != nil {
		return release.Release{}, append(ds, internalError(err))
	}
	return r, ds
}

// Output is what a release is sealed from. Read only: with a Memo, artifacts that
// did not change keep their bytes' place from one Output to the next.
type Output struct {
	// Artifacts are sorted by path; Places are the lines that they come from, in the same
	// order, the zero Pos for an artifact of the whole mesh.
	Artifacts []release.Artifact
	Places    []diag.Pos
	Inputs    release.Inputs
	// Positions are the lines of mesh paths.
	Positions release.Positions
}

// Provenance is the positions of mesh paths and artifacts.
func (o Output) Provenance() release.Provenance {
	out := o.Positions.Provenance()
	for i, a := range o.Artifacts {
		if o.Places[i] != (diag.Pos{}) {
			out[a.Path] = o.Places[i]
		}
	}
	return out
}

// Output is Release before it is sealed, for somebody who sends it to where that is
// done. With an error in the list it is empty.
func (p *Program) Output() (Output, diag.List) { return p.output(nil) }

// output is Output without the Envoy snapshots of some classes.
func (p *Program) output(without map[string]bool) (Output, diag.List) {
	var out Output
	var ds diag.List
	var lost []release.Loss
	add := func(arts []release.Artifact, places []diag.Pos) {
		out.Artifacts, out.Places = append(out.Artifacts, arts...), append(out.Places, places...)
	}
	target := func(made made, problems diag.List) made {
		lost, ds = append(lost, made.lost...), append(ds, problems...)
		return made
	}
	cluster, gateways := target(p.kubernetes()), target(p.gatewayAPI())
	slices.SortFunc(lost, byTarget)
	losses, err := lossList(lost)
	if err != nil {
		ds = append(ds, internalError(err))
	}
	// The folders' names are in this order, too.
	snapshots, origins, problems := p.envoy(without)
	ds = append(ds, problems...)
	add(snapshots, origins)
	add(cluster.arts, cluster.places)
	add(losses, make([]diag.Pos, len(losses)))
	add(p.itself())
	add(p.policies())
	add(gateways.arts, gateways.places)
	if ds.HasErrors() {
		return Output{}, ds.Sorted()
	}
	out.Inputs, out.Positions = p.inputs, p.positions
	return out, ds.Sorted()
}

func (p *Program) envoy(without map[string]bool) ([]release.Artifact, []diag.Pos, diag.List) {
	arts, origins, ds := envoy.Emit(p.mesh, catalog.Envoy(), catalog.EnvoyConditions(), catalog.EnvoyParts(), envoy.Profile{Locate: p.Position, Memo: p.memo.emit(), Without: without})
	places := make([]diag.Pos, len(arts))
	for i, origin := range origins {
		places[i] = p.Position(origin)
	}
	return arts, places, ds
}

// itself is the linked mesh, which comes from no one line.
func (p *Program) itself() ([]release.Artifact, []diag.Pos) {
	return []release.Artifact{{Path: release.MeshPath, Bytes: p.MeshJSON()}}, make([]diag.Pos, 1)
}

// The targets that the root package may ask for.
const (
	kubernetesTarget = "kubernetes"
	gatewayAPITarget = "gateway-api"
)

// made is what a target makes, nothing if nobody asks for it, and what it goes without.
type made struct {
	arts   []release.Artifact
	places []diag.Pos
	lost   []release.Loss
}

// kubernetes is what the target of that name makes.
func (p *Program) kubernetes() (made, diag.List) {
	t, ok := p.result.Target(kubernetesTarget)
	if !ok {
		return made{}, nil
	}
	profile := p.kubernetesProfile(t)
	profile.Patch = p.patches.apply()
	arts, places, gaps, ds := kubernetes.Emit(p.mesh, catalog.Kubernetes(), catalog.KubernetesParts(), profile)
	lost, more := settle(kubernetesColumn(), t, gaps)
	return made{arts, places, lost}, append(ds, more...)
}

// kubernetesProfile is what the target depends on, but for patches.
func (p *Program) kubernetesProfile(t resolve.Target) kubernetes.Profile {
	_, gateways := p.result.Target(gatewayAPITarget)
	return kubernetes.Profile{
		Version: t.Version, Injection: t.Injection, NetworkPolicies: t.NetworkPolicies, Enforcement: p.result.Enforcement,
		AdmissionPolicies: t.AdmissionPolicies, GatewayAPI: gateways, Patch: nil, Locate: p.Position,
	}
}

// policies are what goes on judging in a cluster.
func (p *Program) policies() ([]release.Artifact, []diag.Pos) {
	if _, ok := p.result.Target(kubernetesTarget); !ok {
		return nil, nil
	}
	return p.rules, make([]diag.Pos, len(p.rules))
}

// gatewayAPI is what the target of that name makes.
func (p *Program) gatewayAPI() (made, diag.List) {
	t, ok := p.result.Target(gatewayAPITarget)
	if !ok {
		return made{}, nil
	}
	arts, gaps, ds := gatewayapi.Emit(p.mesh, catalog.GatewayAPI(), catalog.GatewayAPIConditions(), catalog.GatewayAPIParts(), gatewayapi.Profile{Locate: p.Position})
	lost, more := settle(gatewayAPIColumn(), t, gaps)
	return made{arts, make([]diag.Pos, len(arts)), lost}, append(ds, more...)
}

// Position is the user's line of a mesh path, or of its nearest ancestor.
func (p *Program) Position(meshPath string) diag.Pos {
	for path := meshPath; path != ""; path = parent(path) {
		if pos, ok := p.positions.At(path); ok {
			return pos
		}
	}
	return diag.Pos{}
}

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return ""
}

// MeshJSON is the linked mesh in canonical form. Read only.
func (p *Program) MeshJSON() json.RawMessage { return p.form.json() }

// MeshParts is the same in parts: an object without services, and the services. With
// a Memo, parts that did not change keep their bytes' place. Read only.
func (p *Program) MeshParts() (rest json.RawMessage, services []json.RawMessage) {
	return p.form.rest, p.form.services
}

// Environment is what the program was compiled for.
func (p *Program) Environment() string { return p.mesh.Environment }

// Expiries are the later instants at which something of the intent ends. An
// approval has one more release for each, compiled one second after it.
func (p *Program) Expiries() []time.Time { return p.result.Expiries }

// Exceptions are the temporary weakenings in force.
func (p *Program) Exceptions() []Exception { return p.result.Exceptions }

// Packages are all packages of the intent, sorted by folder. A release has none.
func (p *Program) Packages() []Package { return p.result.Packages }

// Owners maps a mesh path to the owner that intent writes there.
func (p *Program) Owners() map[string]string { return p.result.Owners }
