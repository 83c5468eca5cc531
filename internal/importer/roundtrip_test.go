package importer_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/importer"
)

// routed is what a test reads of a Gateway or an HTTPRoute.
type routed struct {
	Kind     string                           `json:"kind"`
	Metadata struct{ Name, Namespace string } `json:"metadata"`
	Spec     struct {
		ParentRefs []struct{ Kind, Name string } `json:"parentRefs"`
		Hostnames  []string                      `json:"hostnames"`
		Listeners  []struct {
			Name, Protocol string
			Port           int
		} `json:"listeners"`
		Rules []struct {
			Matches []specMatch `json:"matches"`
			Filters []struct {
				RequestMirror struct {
					BackendRef namedBackend `json:"backendRef"`
				} `json:"requestMirror"`
			} `json:"filters"`
			BackendRefs []namedBackend `json:"backendRefs"`
		} `json:"rules"`
	} `json:"spec"`
}

type namedBackend struct {
	Name, Namespace string
	Port            int
}

// objectsOf are the Gateway API objects of a release about gateways, with a Service for each
// backend: those that a Service is the parent of are for callers inside the mesh.
func objectsOf(t *testing.T, r release.Release) (in []importer.Input, all []routed) {
	t.Helper()
	ports := map[string][]int{}
	for _, path := range r.Paths() {
		if !strings.HasPrefix(path, "targets/gateway-api/") {
			continue
		}
		text, _ := r.Artifact(path)
		var o routed
		if err := yaml.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		if len(o.Spec.ParentRefs) > 0 && o.Spec.ParentRefs[0].Kind == "Service" {
			continue
		}
		in, all = append(in, importer.Input{Name: path, Text: text}), append(all, o)
		for _, rule := range o.Spec.Rules {
			backends := rule.BackendRefs
			for _, f := range rule.Filters {
				backends = append(backends, f.RequestMirror.BackendRef)
			}
			for _, b := range backends {
				if id := cmp.Or(b.Namespace, o.Metadata.Namespace) + "/" + b.Name; b.Name != "" && !slices.Contains(ports[id], b.Port) {
					ports[id] = append(ports[id], b.Port)
				}
			}
		}
	}
	for id, numbers := range ports {
		ns, name, _ := strings.Cut(id, "/")
		text := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec:\n  selector: {app: %s}\n  ports:\n", name, ns, name)
		for _, n := range numbers {
			text += fmt.Sprintf("  - {name: p%d, port: %d}\n", n, n)
		}
		in = append(in, importer.Input{Name: "service-" + ns + "-" + name + ".yaml", Text: []byte(text)})
	}
	slices.SortFunc(in, func(a, b importer.Input) int { return strings.Compare(a.Name, b.Name) })
	return in, all
}

// routing is what becomes of a request at a gateway: where it goes, and as what it arrives. A
// service's own versions and grants are no business of the objects.
func routing(p *compiler.Program, q compiler.Request, first *compiler.Program) string {
	known := first.Parties()
	a, err := p.Decide(q)
	switch {
	case err != nil:
		return err.Error()
	case a.Redirects():
		var said []string
		for _, f := range a.Outcome.Fields {
			if f.Feature == a.Outcome.By {
				said = append(said, f.Name+"="+f.Value)
			}
		}
		slices.Sort(said)
		return fmt.Sprintf("%d %s %v", a.Status, a.RedirectPath(), said)
	case a.Status != 0 && len(a.Outcome.Shares) == 0:
		return fmt.Sprint(a.Status)
	}
	sum, shares := 0, map[string]int{}
	for _, s := range a.Outcome.Shares {
		name := strings.Join(strings.Split(s.Target, "/")[:2], "/")
		if i := strings.LastIndex(name, "-"); i > 0 && !slices.Contains(known, name) {
			name = name[:i] // the Service of a version
		}
		shares[name] += s.Weight
		sum += s.Weight
	}
	out := cmp.Or(a.Arrives.Host, "as it was") + " " + a.Arrives.Path
	for _, name := range sortedKeys(shares) {
		out += fmt.Sprintf(" %s %d/10000", name, shares[name]*10_000/sum)
	}
	return out
}

func sortedKeys(m map[string]int) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Intent, written as objects and read again, leads the requests of visitors where it did.
func TestWhatTheTargetWritesIsReadBack(t *testing.T) {
	cases, err := filepath.Glob("../../compiler/testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	asked, hosts := 0, 0
	for _, file := range cases {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), "gateway: ") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			before, r := compiled(txtar.Parse(raw))
			if before == nil {
				return // the target refuses something of it
			}
			in, all := objectsOf(t, r)
			res, err := importer.GatewayAPI(in, check)
			if err != nil {
				t.Fatal(err)
			}
			after, ds := load(res.Files)
			if len(res.Files) == 0 {
				return
			}
			if after == nil {
				t.Fatal(ds)
			}
			a, h := asksBoth(t, before, after, all, res)
			asked, hosts = asked+a, hosts+h
		})
	}
	t.Logf("%d requests at %d hosts", asked, hosts)
	if hosts < 40 {
		t.Errorf("only %d hosts were read back", hosts)
	}
}

// compiled is a case of the compiler's, and what the target makes of it; nil where that refuses it.
func compiled(a *txtar.Archive) (*compiler.Program, release.Release) {
	files, options := fstest.MapFS{"mesh.cue": {Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n")}}, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, f := range a.Files {
		if f.Name == "options" {
			for line := range strings.Lines(string(f.Data)) {
				if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == "env" {
					options.Environment = v
				}
			}
		}
		if first, _, below := strings.Cut(f.Name, "/"); (below || strings.HasSuffix(f.Name, ".cue")) && (!below || !slices.Contains([]string{"want", "before", "gateway-api", "kubernetes"}, first)) {
			files[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	targets := "package mesh\n\nmesh: targets: \"gateway-api\": {}\n"
	for range 20 { // what the objects do not say beside where requests go, they may go without
		files["targets.cue"] = &fstest.MapFile{Data: []byte(targets)}
		p, ds := compiler.Load(files, options)
		if p == nil {
			return nil, release.Release{}
		}
		r, more := p.Release()
		if !more.HasErrors() {
			return p, r
		}
		before := targets
		for _, d := range append(ds, more...) {
			if m := unsaid.FindStringSubmatch(d.Text + " " + d.Fix); m != nil && !strings.Contains(targets, m[1]) {
				targets += fmt.Sprintf("mesh: targets: \"gateway-api\": without: %s: {owner: \"test\", reason: \"it is about where requests go\"}\n", m[1])
			}
		}
		if targets == before {
			return nil, release.Release{}
		}
	}
	return nil, release.Release{}
}

// listenersPort is that of a redirect.
var listenersPort = regexp.MustCompile(` port=[0-9]+`)

// unsaid is the name of what the target goes without if it is told so.
var unsaid = regexp.MustCompile(`without: "?(\w+)"?:`)

// asksBoth compares what two meshes do with the requests of visitors that routes are about.
func asksBoth(t *testing.T, before, after *compiler.Program, all []routed, res importer.Result) (asked, hosts int) {
	d := drawing{rand.New(rand.NewPCG(7, 7))}
	for _, o := range all {
		if o.Kind != "HTTPRoute" {
			continue
		}
		for _, g := range all {
			if g.Kind != "Gateway" || g.Metadata.Name != o.Spec.ParentRefs[0].Name || g.Metadata.Namespace != o.Metadata.Namespace {
				continue
			}
			name := "*"
			if len(o.Spec.Hostnames) > 0 {
				name = o.Spec.Hostnames[0]
			}
			if slices.ContainsFunc(res.Findings, func(x diag.Diagnostic) bool {
				return strings.HasPrefix(x.Text, fmt.Sprintf("host %q of Gateway %s/%s", name, g.Metadata.Namespace, g.Metadata.Name))
			}) {
				continue
			}
			hosts++
			for range 40 {
				q := drawFor(d, o, strings.Replace(name, "*", "x", 1))
				q.To = "gateway/" + g.Metadata.Namespace + "/" + g.Metadata.Name
				for _, l := range g.Spec.Listeners {
					if l.Protocol == "HTTP" {
						q.Port = l.Name
					}
				}
				want, got := routing(before, q, before), routing(after, q, before)
				if want == "401" || want == "403" {
					continue // who may call is not in the objects
				}
				if !strings.Contains(want, " port=") { // the target names none beside a new host, where the specification takes the listener's
					got = listenersPort.ReplaceAllString(got, "")
				}
				if asked++; want != got {
					t.Errorf("%+v\nthe intent:         %s\nwhat was read back: %s", q, want, got)
					return asked, hosts
				}
			}
		}
	}
	return asked, hosts
}

// drawFor is a request that is like what one of the matches asks for.
func drawFor(d drawing, o routed, host string) compiler.Request {
	q := compiler.Request{Host: host, Path: pick(d, "/", "/nowhere")}
	rule := o.Spec.Rules[d.IntN(len(o.Spec.Rules))]
	if len(rule.Matches) == 0 {
		return q
	}
	m := rule.Matches[d.IntN(len(rule.Matches))]
	if m.Path != nil && m.Path.Type != "RegularExpression" {
		q.Path = m.Path.Value + pick(d, "", "", "/x", "x", "/")
	}
	q.Method = pick(d, cmp.Or(m.Method, "GET"), cmp.Or(m.Method, "GET"), "POST")
	for _, h := range m.Headers {
		if d.IntN(4) > 0 {
			q.Headers = append(q.Headers, compiler.Header{Name: strings.ToLower(h.Name), Value: h.Value})
		}
	}
	for i, p := range m.Query {
		q.Path += map[bool]string{true: "?", false: "&"}[i == 0] + p.Name + "=" + p.Value
	}
	return q
}
