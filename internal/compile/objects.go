package compile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/known"
)

// objectsFolder of a release holds Kubernetes objects, but for one file.
const objectsFolder, objectsList = "kubernetes/", "kubernetes/kustomization.yaml"

// isObject reports whether an artifact is a Kubernetes object.
func isObject(path string) bool {
	return strings.HasPrefix(path, objectsFolder) && strings.HasSuffix(path, ".yaml") && path != objectsList
}

// objectsOf are the Kubernetes objects of a release, and the pods that workloads among
// them make, as somebody would create them.
func objectsOf(r release.Release) ([]guard.Object, error) {
	var out []guard.Object
	for _, p := range r.Paths() {
		if !isObject(p) {
			continue
		}
		text, _ := r.Artifact(p)
		o, err := objectOf(text)
		if err != nil {
			return nil, fmt.Errorf("reading %q: %w", p, err)
		}
		o.Pos = r.Provenance()[p]
		out = append(out, o)
		if pod, ok := podOf(o); ok {
			out = append(out, pod)
		}
	}
	return out, nil
}

// objectOf reads an object of a release. Numbers keep their spelling.
func objectOf(text []byte) (guard.Object, error) {
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return guard.Object{}, fmt.Errorf("reading YAML: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	o := guard.Object{Operation: "CREATE"}
	if err := dec.Decode(&o.New); err != nil {
		return guard.Object{}, fmt.Errorf("reading JSON: %w", err)
	}
	group, version, named := strings.Cut(wordAt(o.New, "apiVersion"), "/")
	if !named {
		group, version = "", group
	}
	o.Group, o.Version, o.Kind = group, version, wordAt(o.New, "kind")
	o.Namespace, o.Name = wordAt(o.New, "metadata", "namespace"), wordAt(o.New, "metadata", "name")
	if o.Kind == "Namespace" {
		o.Namespace = o.Name // as an API server asks
	}
	return o, nil
}

// podOf is the pod that a workload makes, if it makes one.
func podOf(o guard.Object) (guard.Object, bool) {
	spec, _ := o.New["spec"].(map[string]any)
	if job, ok := spec["jobTemplate"].(map[string]any); ok && o.Kind == "CronJob" {
		spec, _ = job["spec"].(map[string]any)
	}
	template, ok := spec["template"].(map[string]any)
	if _, isPod := template["spec"].(map[string]any); !ok || !isPod || !slices.Contains([]string{"apps", "batch"}, o.Group) {
		return guard.Object{}, false
	}
	meta := map[string]any{}
	if own, ok := template["metadata"].(map[string]any); ok {
		for k, v := range own {
			meta[k] = v
		}
	}
	meta["namespace"], meta["generateName"] = o.Namespace, o.Name+"-"
	return guard.Object{
		Operation: "CREATE", Version: "v1", Kind: "Pod", Namespace: o.Namespace, Pos: o.Pos,
		New: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]},
	}, true
}

// wordAt is the string at a path, "" if there is none.
func wordAt(o map[string]any, path ...string) string {
	for _, p := range path[:len(path)-1] {
		o, _ = o[p].(map[string]any)
	}
	s, _ := o[path[len(path)-1]].(string)
	return s
}

// judgeObjects asks the rules over objects about all objects of a release.
func (c Court) judgeObjects(ctx context.Context, q Case) (guard.Result, error) {
	objects, err := objectsOf(q.Release)
	if err != nil || len(objects) == 0 {
		return guard.Result{}, err
	}
	knowledge, err := known.Of(q.Release)
	if err != nil {
		return guard.Result{}, err
	}
	knows, err := guard.NewKnown(knowledge)
	if err != nil {
		return guard.Result{}, err
	}
	results := make([]guard.Result, len(objects))
	var asked errgroup.Group
	asked.SetLimit(workers())
	var late atomic.Bool // a policy that is too slow for one object would be for all
	for i, o := range objects {
		if late.Load() {
			break
		}
		o.Mesh, o.Enforcement, o.At = knows, q.enforcement(), q.At
		asked.Go(func() error {
			var err error
			results[i], err = c.engine.CheckObject(ctx, o, guard.Timeout)
			if slices.ContainsFunc(results[i].Unanswered, func(d diag.Diagnostic) bool { return d.Code == diag.CodePolicyBudget }) {
				late.Store(true)
			}
			return err
		})
	}
	if err := asked.Wait(); err != nil {
		return guard.Result{}, fmt.Errorf("evaluating policies over objects: %w", err)
	}
	all := guard.Result{Evaluated: c.engine.Objects(), Total: c.engine.Objects()}
	for i, r := range results {
		if r.Total == 0 {
			continue // it was not asked about any more, which has been told
		}
		all.Evaluated = min(all.Evaluated, r.Evaluated)
		for _, f := range r.Found {
			all.Findings = append(all.Findings, q.comfort(objects[i], f))
		}
		all.Findings = append(all.Findings, r.Unanswered...)
	}
	return all, nil
}

// comfort adds to a denial what helps if the change itself exempts from it.
func (q Case) comfort(o guard.Object, f guard.Found) diag.Diagnostic {
	if q.Base == nil || !f.Problem.IsError() {
		return f.Problem
	}
	o.Enforcement = q.Program.Enforcement()
	if own := o.Settle(f.Rule, f.Problem); !own.Problem.IsError() {
		return f.Problem.WithFix("%s; or have what this change says of the rule approved first: a change cannot excuse itself", f.Problem.Fix)
	}
	return f.Problem
}

// checkWords tells of words about rules that there are not, or that change nothing.
func (c Court) checkWords(p *compiler.Program) diag.List {
	var out diag.List
	ids := []string{release.DriftRule}
	for _, r := range c.engine.Rules() {
		ids = append(ids, r.ID)
	}
	unknown := func(at diag.Pos, id string) {
		d := diag.New(diag.CodeNoEffect, at, "no rule over objects has the id %q", id).WithFix("name one of %s", strings.Join(ids, ", "))
		if near, ok := diag.Nearest(id, ids); ok {
			d = d.WithFix("did you mean %q?", near)
		}
		out = append(out, d)
	}
	for _, s := range p.Enforcement().Softened {
		at := p.Position("rule/" + s.Rule)
		switch r, ok := c.engine.Rule(s.Rule); {
		case !ok:
			unknown(at, s.Rule)
		case !guard.Severity(s.Severity).Softer(r.Severity):
			out = append(out, diag.Warn(diag.CodeNoEffect, at, "rule %q is said to %s, and does no more anyway: its severity is %s", s.Rule, s.Severity, r.Severity).WithFix("delete it"))
		}
	}
	for _, x := range p.Enforcement().Exemptions {
		for _, id := range x.Rules {
			if !slices.Contains(ids, id) {
				unknown(p.Position("exemption/"+x.Name), id)
			}
		}
	}
	return out
}

// Case is what a court judges.
type Case struct {
	Program *compiler.Program
	// At is the program's date.
	At time.Time
	// Release is what it compiles to, the zero Release if it does not. Nothing that Envoy gets
	// is looked at, and may be missing.
	Release release.Release
	// Base, if set, is the program whose words about rules hold, because a change must not
	// excuse itself.
	Base *compiler.Program
}

func (q Case) enforcement() release.Enforcement {
	if q.Base != nil {
		return q.Base.Enforcement()
	}
	return q.Program.Enforcement()
}
