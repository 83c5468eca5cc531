package kube

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/internal/kubetest"
)

// root is the repository's top folder.
const root = "../.."

// source is intent and the environment to compile it for.
type source struct {
	name, env string
	files     fs.FS
}

// sources are every example that has an environment for a cluster, and every case of the
// compiler's own tests, with the target.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	examples, err := filepath.Glob(root + "/examples/*/intent/environments/kubernetes")
	if err != nil || len(examples) == 0 {
		t.Fatalf("found the examples %v: %v", examples, err)
	}
	for _, dir := range examples {
		intent := filepath.Dir(filepath.Dir(dir))
		out = append(out, source{filepath.Base(filepath.Dir(intent)), "kubernetes", os.DirFS(intent)})
	}
	cases, err := filepath.Glob(root + "/compiler/testdata/*.txtar")
	if err != nil || len(cases) < 10 {
		t.Fatalf("found the cases %v: %v", cases, err)
	}
	for _, file := range cases {
		a, err := golden.Archive(file)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, asked(strings.TrimSuffix(filepath.Base(file), ".txtar"), a))
	}
	return out
}

// everything is the target with all that it can write.
const everything = `package mesh

mesh: targets: kubernetes: {
	networkPolicies: true
	admissionPolicies: true
	injection: {image: "registry.example/meshc-proxy@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", server: "meshc.meshc-system.svc:18000"}
}
`

// asked is a case with the target and, unless it has one, a root package.
func asked(name string, a *txtar.Archive) source {
	files := fstest.MapFS{
		"mesh.cue":    {Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n")},
		"targets.cue": {Data: []byte(everything)},
	}
	s := source{name, "", files}
	for _, f := range a.Files {
		first, rest, _ := strings.Cut(f.Name, "/")
		name := f.Name
		switch {
		case f.Name == "options":
			if _, env, ok := strings.Cut(string(f.Data), "env "); ok {
				s.env, _, _ = strings.Cut(env, "\n")
			}
			continue
		case first == "before", first == "gateway-api", first == "want":
			continue
		case first == "kubernetes":
			name = rest
		case path.Ext(name) != ".cue" && !strings.Contains(name, "/"): // else a word may name it, or it is kustomize's
			continue
		}
		if files[name] = (&fstest.MapFile{Data: f.Data}); len(f.Data) == 0 { // no such file
			delete(files, name)
		}
	}
	return s
}

// compiled writes the release to a folder; ok is false if the intent cannot be compiled
// for a cluster: some cases are about one machine, or about files of an operator.
func (s source) compiled(t *testing.T) (dir string, ok bool) {
	t.Helper()
	p, ds := compiler.Load(s.files, compiler.Options{Environment: s.env, At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	r, ds := p.Release()
	if err := ds.Err(); err != nil {
		for _, why := range []string{"traffic is redirected", "a file of the operator, which no pod has", "no sidecar has files of an operator"} {
			if strings.Contains(err.Error(), why) {
				return "", false
			}
		}
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "release")
	if err := release.WriteDir(r, dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "kubernetes"), true
}

// Every object is one that a real API server takes, to the last field, by the list that
// users give to their tools.
func TestObjectsAreTaken(t *testing.T) {
	typo, err := filepath.Abs("testdata/typo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := kubetest.ForTest(t, kubetest.Options{Controllers: []string{"namespace-controller", "serviceaccount-controller"}})
	if out, err := c.Kubectl(t.Context(), "apply", "--server-side", "--validate=strict", "--filename", typo); err == nil {
		t.Fatalf("a field that is none was taken: %s", out)
	}
	taken := 0
	for _, s := range sources(t) {
		t.Run(s.name, func(t *testing.T) {
			dir, ok := s.compiled(t)
			if !ok {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			apply := []string{"apply", "--server-side", "--force-conflicts", "--validate=strict"}
			// What lies in namespaces needs them, even to be looked at.
			if out, err := c.Kubectl(ctx, append(apply, "--filename", filepath.Join(dir, "cluster"))...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			// The admission policies of the case before hold until the server has taken up these.
			var out string
			var err error
			for end := time.Now().Add(time.Minute); ; {
				out, err = c.Kubectl(ctx, append(apply, "--dry-run=server", "--kustomize", dir)...)
				if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") || time.Now().After(end) {
					break
				}
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			taken += strings.Count(out, "serverside-applied")
		})
	}
	t.Logf("%d objects", taken)
	if taken < 100 {
		t.Errorf("only %d objects were looked at", taken)
	}
}
