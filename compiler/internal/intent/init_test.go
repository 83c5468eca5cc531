package intent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	if ds := vet(t, cueTool(t), dir); ds != "" {
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

// cueTool is the real cue command, in the version of the library that meshc has.
func cueTool(t *testing.T) string {
	t.Helper()
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "GOBIN="+cueDir(t))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	version := run("go", "list", "-m", "-f", "{{.Version}}", "cuelang.org/go")
	run("go", "install", "cuelang.org/go/cmd/cue@"+version)
	return filepath.Join(cueDir(t), "cue")
}

// cueDir keeps the command from one run to the next, as Go keeps what it builds.
func cueDir(t *testing.T) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "meshc-test-tools")
}

// vet is what the cue command finds in dir, without network.
func vet(t *testing.T, tool, dir string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool, "vet", "-c=false", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CUE_REGISTRY=none")
	out, err := cmd.CombinedOutput()
	if (err == nil) != (len(out) == 0) {
		t.Fatalf("cue vet: %v\n%s", err, out)
	}
	return string(out)
}

// The user's own tools find the schema mistakes that meshc finds.
func TestCueVetAgrees(t *testing.T) {
	tool := cueTool(t)
	for text, want := range map[string]struct {
		code diag.Code
		vet  string
	}{
		`mesh: service: hello: timout: 3`:                   {diag.CodeUnknownField, "mesh.service.hello.timout: field not allowed"},
		`mesh: service: hello: rateLimit: all: requests: 0`: {diag.CodeValue, "mesh.service.hello.rateLimit.all.requests: invalid value 0"},
		`mesh: service: Bad_Name: port: {}`:                 {diag.CodeName, "mesh.service.Bad_Name: field not allowed"},
		`mesh: service: hello: owner: 5`:                    {diag.CodeValue, "mesh.service.hello.owner: conflicting values"},
		`mesh: namespace: "other"`:                          {diag.CodeConflict, "mesh.namespace: conflicting values"},
		`mesh: gateway: edge: host: "a b": route: {}`:       {diag.CodeName, `mesh.gateway.edge.host."a b": field not allowed`},
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
		if got := vet(t, tool, dir); !strings.Contains(got, want.vet) {
			t.Errorf("%s: cue vet says\n%s", text, got)
		}
	}
}

// Half of a repository would keep the next attempt from making a whole one.
func TestInitLeavesNothingBehindWhenItFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(dir, "hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir, "example.com/mesh"); err == nil {
		t.Fatal("a folder was made in the place of a link that leads nowhere")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := os.Remove(filepath.Join(dir, "hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir, "example.com/mesh"); err != nil {
		t.Error(err)
	}
}
