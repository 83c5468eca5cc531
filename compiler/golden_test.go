package compiler_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

// compileDate is the date of a case that names none.
const compileDate = "2027-01-01T00:00:00Z"

// whole is one case: a repository and what is looked at of what it compiles to.
//
// Inputs: *.cue is the intent, with a root package that says nothing unless the
// case has a mesh.cue; before/*.cue stands in place of files of that name in the
// mesh that a plan compares with, gateway-api/*.cue and kubernetes/*.cue in what is
// compiled for that target (empty: no such file); options has lines "at DATE", "later DATE", "env
// NAME"; show has lines "CLASS TYPE NAME [POINTER]", a resource or the part of it
// at a JSON pointer; requests has lines of "key=value", those that are no field of
// a request being headers.
//
// Outputs: envoy and later (the shown parts at both dates), provenance (their
// lines), gateway-api and kubernetes (what the same intent with that target has
// beside Envoy's, and its lines, or why there is nothing), plan, answers, answers-later, ends (what is temporary), classes
// (who gets what), losses (what targets go without), live (clusters whose addresses join at the server) and discovered
// (versions whose instances a Kubernetes cluster knows).
type whole struct {
	files, before fstest.MapFS
	other         map[string]fstest.MapFS // by target
	opts          map[string]string
	show, asked   []string
}

// plainRoot is the root package of cases without one.
const plainRoot = "package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n"

func parseWhole(c golden.Case) whole {
	w := whole{files: fstest.MapFS{"mesh.cue": {Data: []byte(plainRoot)}}, opts: map[string]string{"at": compileDate}}
	old, other := map[string][]byte{}, map[string]map[string][]byte{}
	for target := range targetFolders() {
		other[target] = map[string][]byte{"targets.cue": fmt.Appendf(nil, "package mesh\n\nmesh: targets: %q: {}\n", target)}
	}
	for name, b := range c.In {
		first, rest, _ := strings.Cut(name, "/")
		switch {
		case name == "show":
			w.show = lines(b)
		case name == "requests":
			w.asked = lines(b)
		case name == "options":
			for _, l := range lines(b) {
				k, v, _ := strings.Cut(l, " ")
				w.opts[k] = v
			}
		case first == "before":
			old[rest] = b
		case other[first] != nil:
			other[first][rest] = b
		default:
			w.files[name] = &fstest.MapFile{Data: b}
		}
	}
	w.before, w.other = with(w.files, old), map[string]fstest.MapFS{}
	for target, over := range other {
		w.other[target] = with(w.files, over)
	}
	return w
}

// targetFolders is where each target beside Envoy has its artifacts in a release.
func targetFolders() map[string]string {
	return map[string]string{"gateway-api": "targets/gateway-api/", "kubernetes": "kubernetes/"}
}

// with puts files over others; an empty one takes a name away.
func with(files fstest.MapFS, over map[string][]byte) fstest.MapFS {
	out := maps.Clone(files)
	for name, b := range over {
		if out[name] = (&fstest.MapFile{Data: b}); len(b) == 0 {
			delete(out, name)
		}
	}
	return out
}

func lines(b []byte) []string {
	var out []string
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func (w whole) load(t *testing.T, files fs.FS, at string) (*compiler.Program, diag.List) {
	t.Helper()
	when, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatalf("options: %v", err)
	}
	return compiler.Load(files, compiler.Options{Environment: w.opts["env"], At: when})
}

// Every case goes the whole way, from files to what a proxy gets and to what
// people read.
func TestWholePipeline(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c golden.Case) map[string][]byte {
		w := parseWhole(c)
		out := map[string][]byte{}
		p, ds := w.load(t, w.files, w.opts["at"])
		if p == nil {
			out["diag"] = text(ds)
			return out
		}
		r, more := p.Release()
		out["diag"] = text(append(ds, more...))
		if more.HasErrors() {
			return out
		}
		out["envoy"], out["provenance"] = w.shown(t, r)
		out["answers"] = w.answers(t, p)
		out["ends"] = ends(p)
		out["classes"], out["live"] = classes(t, r)
		out["discovered"] = discovered(t, r)
		out["losses"], _ = r.Artifact(release.LossesPath)
		if at := w.opts["later"]; at != "" {
			later, ds := w.load(t, w.files, at)
			lr := w.release(t, later, ds)
			out["later"], _ = w.shown(t, lr)
			out["answers-later"], out["diag-later"], out["ends-later"] = w.answers(t, later), text(ds), ends(later)
		}
		for target, folder := range targetFolders() {
			if c.Has(target) {
				out[target] = w.compiledFor(t, target, folder)
			}
		}
		if c.Has("plan") {
			out["plan"] = w.plan(t, p)
		}
		return out
	})
}

func (w whole) release(t *testing.T, p *compiler.Program, ds diag.List) release.Release {
	t.Helper()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	r, ds := p.Release()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

// text is what a user sees of problems.
func text(ds diag.List) []byte {
	var b bytes.Buffer
	for _, d := range ds.Sorted() {
		fmt.Fprintln(&b, d)
	}
	return b.Bytes()
}

// shown are the asked parts of resources, and where they come from.
func (w whole) shown(t *testing.T, r release.Release) (excerpt, provenance []byte) {
	t.Helper()
	var parts bytes.Buffer
	origins := map[string]bool{}
	for _, line := range w.show {
		f := strings.Fields(line)
		if len(f) < 3 {
			t.Fatalf("show: %q is not CLASS TYPE NAME [POINTER]", line)
		}
		blob, path, ok := resource(t, r, f[0], f[1], f[2])
		fmt.Fprintf(&parts, "# %s\n", line)
		if !ok {
			parts.WriteString("none\n")
			continue
		}
		origins[fmt.Sprintf("%s %s: %s\n", f[1], f[2], r.Provenance()[path])] = true
		var v any
		if err := json.Unmarshal(blob, &v); err != nil {
			t.Fatal(err)
		}
		for _, pointer := range f[3:] {
			v = at(v, pointer)
		}
		y, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		parts.Write(y)
	}
	return parts.Bytes(), []byte(strings.Join(slices.Sorted(maps.Keys(origins)), ""))
}

// resource finds a resource of a class by the last word of its type and its name.
func resource(t *testing.T, r release.Release, class, typ, name string) (blob []byte, path string, ok bool) {
	t.Helper()
	cl, err := release.ParseClass(class)
	if err != nil {
		t.Fatalf("show: %v", err)
	}
	s, err := r.Snapshot(cl)
	if err != nil {
		t.Fatalf("show: %v", err)
	}
	if typ == "live" { // where the addresses of a cluster come from stands in the snapshot itself
		for _, e := range s.Endpoints {
			if e.Cluster == name {
				b, err := canon.JSON(e)
				if err != nil {
					t.Fatal(err)
				}
				return b, release.SnapshotPath(cl), true
			}
		}
		return nil, "", false
	}
	kinds := map[string]release.TypeURL{"cluster": release.ClusterType, "listener": release.ListenerType, "route": release.RouteType}
	if kinds[typ] == "" {
		t.Fatalf("show: unknown type %q", typ)
	}
	for _, res := range s.Resources[kinds[typ]] {
		if res.Name == name {
			b, err := r.Blob(res.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return b, release.BlobPath(res.Digest), true
		}
	}
	return nil, "", false
}

// at follows a JSON pointer; nothing there is null.
func at(v any, pointer string) any {
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func (w whole) answers(t *testing.T, p *compiler.Program) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, line := range w.asked {
		fmt.Fprintf(&b, "%s\n", line)
		ans, err := p.Decide(parseRequest(line))
		if err != nil {
			fmt.Fprintf(&b, "  error: %v\n", err)
			continue
		}
		fmt.Fprintf(&b, "  %s\n", ans.Words())
		for _, s := range ans.Steps {
			fmt.Fprintf(&b, "  by %s at %s\n", s.Path, s.Pos)
		}
		if ans.Moved() {
			fmt.Fprintf(&b, "  arrives as %s\n", ans.Target())
		}
		for _, s := range ans.Outcome.Shares {
			for _, f := range s.Fields {
				fmt.Fprintf(&b, "  to %s: %s: %s\n", s.Target, f.Feature, strings.TrimSpace(f.Name+" "+f.Value))
			}
		}
		for _, f := range ans.Outcome.Fields {
			fmt.Fprintf(&b, "  %s: %s\n", f.Feature, strings.TrimSpace(f.Name+" "+f.Value))
		}
	}
	return b.Bytes()
}

func parseRequest(line string) compiler.Request {
	var r compiler.Request
	for word := range strings.FieldsSeq(line) {
		k, v, _ := strings.Cut(word, "=")
		field := map[string]*string{"from": &r.From, "to": &r.To, "port": &r.Port, "host": &r.Host, "method": &r.Method, "path": &r.Path, "sni": &r.ServerName, "source": &r.Source, "client": &r.Client, "certificate": &r.Certificate}[k]
		if field != nil {
			*field = v
			continue
		}
		if d, is := map[string]*time.Duration{"pause": &r.Pause, "after": &r.AnswerAfter}[k]; is {
			var err error
			if *d, err = time.ParseDuration(v); err != nil {
				panic(err)
			}
			continue
		}
		if k == "user" {
			u, err := compiler.ReadUser(v)
			if err != nil {
				panic(err)
			}
			r.Users = append(r.Users, u)
			continue
		}
		if k == "claim" {
			var err error
			if r.Users, err = compiler.ReadClaim(r.Users, v); err != nil {
				panic(err)
			}
			continue
		}
		r.Headers = append(r.Headers, compiler.Header{Name: k, Value: v})
	}
	return r
}

// ends are what is temporary and when it is over.
func ends(p *compiler.Program) []byte {
	var b bytes.Buffer
	for _, e := range p.Exceptions() {
		until := "without end"
		if e.Until != "" {
			until = "until " + e.Until
		}
		fmt.Fprintf(&b, "exception %s: %s %s, owner %s, because %s\n", e.Path, strings.TrimSpace(e.Kind+" "+e.Mode), until, e.Owner, e.Reason)
	}
	for _, e := range p.Expiries() {
		fmt.Fprintf(&b, "a step after %s\n", e.Format(time.RFC3339))
	}
	return b.Bytes()
}

// classes are what each proxy class has, and which clusters join live endpoints.
func classes(t *testing.T, r release.Release) (all, live []byte) {
	t.Helper()
	var a, l bytes.Buffer
	for _, c := range r.Classes() {
		s, err := r.Snapshot(c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&a, c)
		for _, typ := range release.Types() {
			for _, res := range s.Resources[typ] {
				fmt.Fprintf(&a, "  %s %s\n", strings.ToLower(typ[strings.LastIndex(typ, ".")+1:]), res.Name)
			}
		}
		for _, e := range s.Endpoints {
			fmt.Fprintf(&l, "%s %s: file %q, dns %q\n", c, e.Cluster, e.File, e.DNS)
		}
	}
	return a.Bytes(), l.Bytes()
}

// compiledFor is the same intent for another target.
func (w whole) compiledFor(t *testing.T, target, folder string) []byte {
	t.Helper()
	p, ds := w.load(t, w.other[target], w.opts["at"])
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	r, ds := p.Release()
	if ds.HasErrors() {
		return text(ds)
	}
	var b bytes.Buffer
	for _, path := range r.Paths() {
		if strings.HasPrefix(path, folder) {
			art, _ := r.Artifact(path)
			at := ""
			if pos, ok := r.Provenance()[path]; ok {
				at = ", from " + pos.String()
			}
			fmt.Fprintf(&b, "# %s%s\n%s", path, at, art)
		}
	}
	b.Write(text(ds))
	return b.Bytes()
}

func (w whole) plan(t *testing.T, after *compiler.Program) []byte {
	t.Helper()
	before, ds := w.load(t, w.before, w.opts["at"])
	if err := ds.Err(); err != nil {
		t.Fatalf("before: %v", err)
	}
	ch, err := compiler.CompareAhead(before, after, compiler.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ch.Text(&b, func(p diag.Pos) diag.Pos { return p }, nil, false); err != nil {
		t.Fatal(err)
	}
	if told := retold(t, ch.Plan); told != b.String() {
		t.Errorf("a program that reads the JSON without its sentences says\n%s\nthe plan is\n%s", told, b.String())
	}
	return b.Bytes()
}

// retold is the text of a plan as a program makes it that has the JSON, and none of its sentences.
func retold(t *testing.T, p compiler.Plan) string {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var read compiler.Plan
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	say := func(ls []plan.Line) {
		for i := range ls {
			ls[i].Text = ""
			ls[i].Text = ls[i].Say(catalog.Words())
		}
	}
	say(read.Lines)
	for _, s := range read.Steps {
		say(s.Lines)
		say(s.Ends)
	}
	var b strings.Builder
	if err := plan.Text(&b, read, plan.RenderOptions{At: func(p diag.Pos) diag.Pos { return p }}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Every row of the matrix has a case that shows it from intent to Envoy.
func TestEveryFeatureIsShown(t *testing.T) {
	var all []repository
	for _, r := range repositories(t) {
		if _, err := os.Stat(filepath.Join("testdata", r.name+".txtar")); err == nil {
			all = append(all, r)
		}
	}
	for _, f := range catalog.All() {
		if !slices.ContainsFunc(all, func(r repository) bool { return strings.Contains(listing(r.files), f.Field+":") }) {
			t.Errorf("no case shows %q: write compiler/testdata/%s.txtar with intent that has it (what a case holds is said at whole) and fill it with -update", f.Field, f.Name)
		}
	}
}

func discovered(t *testing.T, r release.Release) []byte {
	t.Helper()
	all, err := compiler.Discovered(r)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, s := range all {
		for _, v := range s.Versions {
			fmt.Fprintf(&b, "%s/%s %v %s: labels %v, clusters %v\n", s.Namespace, s.Name, s.Ports, v.Name, v.Labels, v.Clusters)
		}
	}
	return b.Bytes()
}
