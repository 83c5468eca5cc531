package examples_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

// Bookinfo compiles for Envoy and for Gateway API from one intent: what the objects cannot
// say is accepted by name, and proxies get what they get without them.
func TestBookinfoGoesWithoutWhatGatewayAPICannotSay(t *testing.T) {
	kubernetes := example{"bookinfo", "kubernetes"}
	p, ds := kubernetes.load()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	plain, ds := p.Release()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(kubernetes.name, "gateway-api")
	both, ds := withFile(t, os.DirFS(filepath.Join(kubernetes.name, "intent")), "gateway-api.cue", filepath.Join(folder, "targets.cue"), kubernetes.env)
	for _, d := range ds {
		if d.Code != diag.CodeApproximate && !kubernetes.meant(d) {
			t.Error(d)
		}
	}
	var shown bytes.Buffer
	for _, path := range both.Paths() {
		text, _ := both.Artifact(path)
		switch old, there := plain.Artifact(path); {
		case path == release.LossesPath, strings.HasPrefix(path, "targets/gateway-api/"):
			fmt.Fprintf(&shown, "# %s\n%s---\n", path, text)
		case !there || !bytes.Equal(old, text) && strings.HasPrefix(path, "envoy/"):
			t.Errorf("%s is not as it is without Gateway API", path)
		}
	}
	golden.File(t, filepath.Join(folder, "objects.yaml"), shown.Bytes())
}

// withFile compiles intent with one more file in it.
func withFile(t *testing.T, intent fs.FS, name, file, env string) (release.Release, diag.List) {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(intent, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(intent, path)
		files[path] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files[name] = &fstest.MapFile{Data: text}
	p, ds := compiler.Load(files, compiler.Options{Environment: env, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	r, more := p.Release()
	return r, append(ds, more...)
}
