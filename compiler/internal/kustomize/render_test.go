package kustomize

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// service is a Service of the compiler's.
func service(i int) Object {
	return Object{Keep: [][]string{{"spec", "selector"}}, JSON: fmt.Appendf(nil,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"s%d","namespace":"shop","labels":{"a":"b"}},"spec":{"selector":{"app":"s%d"},"ports":[{"name":"http","port":80}]}}`, i, i)}
}

func services(n int) []Object {
	var out []Object
	for i := range n {
		out = append(out, service(i))
	}
	return out
}

// job is one with files as name and text by turns.
func job(objects []Object, files ...string) Job {
	m := map[string][]byte{}
	for i := 0; i < len(files); i += 2 {
		m["kustomize/"+files[i]] = []byte(files[i+1])
	}
	j, _ := NewJob(m, "environments/prod")
	j.Objects = objects
	return j
}

func rendered(t *testing.T, j Job) []byte {
	t.Helper()
	out, ds := Render(j)
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, r := range out {
		b.Write(r.JSON)
	}
	return b.Bytes()
}

// A component that says nothing changes nothing, not even the form.
func TestNothingChangesNothing(t *testing.T) {
	objects := services(3)
	var want bytes.Buffer
	for _, o := range objects {
		text, err := canon.Reformat(o.JSON)
		if err != nil {
			t.Fatal(err)
		}
		want.Write(text)
	}
	if got := rendered(t, job(objects, "kustomization.yaml", "kind: Component\n")); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("got\n%s\nwant\n%s", got, want.Bytes())
	}
}

// What one render was told changes no later one: kustomize keeps state, by files that
// never reach it.
func TestRendersDoNotInfluenceEachOther(t *testing.T) {
	merge := job(services(2), "kustomization.yaml", "kind: Component\npatches:\n- patch: |\n    apiVersion: v1\n    kind: Service\n    metadata: {name: s1, namespace: shop}\n    spec: {ports: [{name: admin, port: 81}]}\n")
	before := rendered(t, merge)
	schema := `{"definitions":{"io.k8s.api.core.v1.ServiceSpec":{"properties":{"ports":{"type":"array","items":{}}}}}}`
	for _, words := range []string{"openapi: {path: schema.json}", "crds: [schema.json]", "configurations: [schema.json]", "resources: [crd.yaml]"} {
		_, _ = Render(job(services(2), "kustomization.yaml", "kind: Component\n"+words+"\n", "schema.json", schema, "crd.yaml", strings.ReplaceAll(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: services.example.com}
spec: {group: "", names: {kind: Service, plural: services}, scope: Namespaced, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}
`, "\t", "  ")))
		if after := rendered(t, merge); !bytes.Equal(after, before) {
			t.Errorf("after %s:\n%s\nbefore:\n%s", words, after, before)
		}
	}
	if !strings.Contains(string(before), `"admin"`) || !strings.Contains(string(before), `"http"`) {
		t.Errorf("the ports were not merged:\n%s", before)
	}
}

// Whatever the files hold, Render returns, with objects or with problems at their places.
func FuzzRender(f *testing.F) {
	for _, seed := range []string{
		"kind: Component\n", "kind: Component\nimages: [{name: x, newTag: y}]\n", "kind: Component\npatches: [{target: {kind: Service}, patch: '[]'}]\n",
		"kind: Component\nlabels: [{pairs: {a: b}}]\n", "a: &x [*x]\n", "kind: Component\nreplicas: [{name: s0, count: 2}]\n", "kind: Component\ncommonAnnotations: {a: b}\n",
		"kind: Component\npatches:\n- patch: |\n    apiVersion: v1\n    kind: Service\n    metadata: {name: s0, namespace: shop}\n    spec: {ports: [{port: 80, $patch: delete}]}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		j := job(services(2), "kustomization.yaml", "")
		j.Files["kustomize/kustomization.yaml"] = text
		out, ds := Render(j)
		if ds.HasErrors() != (out == nil) {
			t.Errorf("%d objects and %v", len(out), ds)
		}
		for _, d := range ds {
			if d.Code == diag.CodeInternal || d.Fix == "" || d.Pos.File == "" {
				t.Errorf("%v", d)
			}
		}
	})
}

func BenchmarkRender(b *testing.B) {
	for _, n := range []int{20, 200, 1000, 2000} {
		j := job(services(n), "kustomization.yaml", "kind: Component\npatches: [{target: {kind: Service, name: s1}, patch: '[{\"op\": \"add\", \"path\": \"/spec/type\", \"value\": \"ClusterIP\"}]'}]\n")
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, ds := Render(j); ds.HasErrors() {
					b.Fatal(ds)
				}
			}
		})
	}
}

// kustomize panics on annotations that it writes itself. No file can have them, by
// their names or by a pointer to them; if it panics all the same, that is an error.
func TestPanicsAreErrors(t *testing.T) {
	for _, text := range []string{
		`patches: [{target: {kind: Service}, patch: '[{"op": "add", "path": "/metadata/annotations/internal.config.kubernetes.io~1previousNames", "value": "a,b"}]'}]`,
		`commonAnnotations: {config.kubernetes.io/local-config: "true"}`,
		`labels: [{pairs: {config.k8s.io/id: "1"}}]`,
	} {
		if _, ds := Render(job(services(1), "kustomization.yaml", "kind: Component\n"+text+"\n")); !ds.HasErrors() || !strings.Contains(ds[0].Text, "steers kustomize") {
			t.Errorf("%s: %v", text, ds)
		}
	}
	forged := entry{json: []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","annotations":{"internal.config.kubernetes.io/previousNames":"a,b","internal.config.kubernetes.io/previousNamespaces":"x,y","internal.config.kubernetes.io/previousKinds":"K"}}}`)}
	if _, err := run([]entry{forged}, component{}, nil); err == nil || !strings.Contains(err.Error(), "kustomize broke off") {
		t.Errorf("got %v", err)
	}
}

// A child is given the job and gives the answer as they are.
func TestAnswer(t *testing.T) {
	j := job(services(2), "kustomization.yaml", "kind: Component\ncommonAnnotations: {a: b}\n")
	request, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Answer(request)
	if err != nil {
		t.Fatal(err)
	}
	out, ds, err := DecodeAnswer(b)
	if err != nil || ds.HasErrors() || len(out) != 2 || !strings.Contains(string(out[0].JSON), `"a":"b"`) {
		t.Errorf("%d objects, %v, %v", len(out), ds, err)
	}
	if _, err := Answer([]byte("x")); err == nil {
		t.Error("no job was done")
	}
}
