package intent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/load"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

func TestInit(t *testing.T) {
	dir := t.TempDir()
	names, err := Init(dir, "example.com/mesh")
	if err != nil || len(names) < 10 {
		t.Fatal(names, err)
	}
	tree, l := source.Read(os.DirFS(dir))
	if len(l) > 0 {
		t.Fatal(l)
	}
	in, l := Load(tree, Options{})
	if len(l) > 0 || len(in.Packages) != 2 || in.Environment != "prod" {
		t.Errorf("%v %v", in, l)
	}
	if ds := vet(t, dir); ds != "" {
		t.Errorf("cue vet: %s", ds)
	}
	if _, err := Init(dir, "example.com/mesh"); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("a second time: %v", err)
	}
	for _, bad := range []string{"", "mesh", "a.b\"\nx: 1", "A.b"} {
		if _, err := Init(t.TempDir(), bad); err == nil {
			t.Errorf("module %q was taken", bad)
		}
	}
}

// vet does what `cue vet -c=false ./...` does: CUE's own loader with the
// vendored copy of the schema, and no network.
func vet(t *testing.T, dir string) string {
	t.Helper()
	var all errors.Error
	for _, inst := range load.Instances([]string{"./..."}, &load.Config{Dir: dir, Env: []string{"CUE_REGISTRY=none"}}) {
		if inst.Err != nil {
			all = errors.Append(all, inst.Err)
			continue
		}
		if err := cuecontext.New().BuildInstance(inst).Validate(cue.Concrete(false)); err != nil {
			all = errors.Append(all, errors.Promote(err, ""))
		}
	}
	return errors.Details(all, &errors.Config{Cwd: dir})
}

// The user's own tools find the schema mistakes that meshc finds.
func TestCueVetAgrees(t *testing.T) {
	for text, want := range map[string]struct {
		code diag.Code
		vet  string
	}{
		`mesh: service: hello: timout: 3`:              {diag.CodeUnknownField, "mesh.service.hello.timout: field not allowed"},
		`mesh: service: hello: rateLimit: requests: 0`: {diag.CodeValue, "mesh.service.hello.rateLimit.requests: invalid value 0"},
		`mesh: service: Bad_Name: port: {}`:            {diag.CodeName, "mesh.service.Bad_Name: field not allowed"},
		`mesh: service: hello: owner: 5`:               {diag.CodeValue, "mesh.service.hello.owner: conflicting values"},
		`mesh: namespace: "other"`:                     {diag.CodeConflict, "mesh.namespace: conflicting values"},
		`mesh: gateway: edge: host: "a b": route: {}`:  {diag.CodeName, `mesh.gateway.edge.host."a b": field not allowed`},
	} {
		dir := t.TempDir()
		if _, err := Init(dir, "example.com/mesh"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hello", "more.cue"), []byte("package hello\n\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		tree, l := source.Read(os.DirFS(dir))
		_, more := Load(tree, Options{})
		l = append(l, more...)
		if !strings.Contains(string(render(l)), string(want.code)) {
			t.Errorf("%s: meshc says\n%s", text, string(render(l)))
		}
		if got := vet(t, dir); !strings.Contains(got, want.vet) {
			t.Errorf("%s: cue vet says\n%s", text, got)
		}
	}
}
