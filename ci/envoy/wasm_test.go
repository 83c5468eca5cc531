package envoy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// zig is the compiler for WebAssembly that Python's registry has, and what it has to be.
const zig = "ziglang==0.17.1"

// wasmModule builds testdata/wasm/module.c.
func wasmModule(t *testing.T) []byte {
	t.Helper()
	cache := os.Getenv("MESHC_TOOLS")
	if cache == "" {
		of, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(of, "meshc-tools")
	}
	packages := filepath.Join(cache, "zig", strings.TrimPrefix(zig, "ziglang=="))
	run := func(env string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-m"}, args...)...)
		cmd.Env = append(os.Environ(), env)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("python3 -m %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(packages, "ziglang")); err != nil {
		if err := os.MkdirAll(filepath.Dir(packages), 0o700); err != nil {
			t.Fatal(err)
		}
		into, err := os.MkdirTemp(filepath.Dir(packages), "new")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(into)
		run("", "pip", "install", "--quiet", "--only-binary=:all:", "--no-deps", "--target", into, zig)
		if err := os.Rename(into, packages); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			t.Fatal(err) // else somebody else has been faster
		}
	}
	out := filepath.Join(t.TempDir(), "module.wasm")
	run("PYTHONPATH="+packages, "ziglang", "cc", "-target", "wasm32-freestanding", "-O2", "-s", "-nostdlib", "-Wl,--no-entry", "-o", out, filepath.Join("testdata", "wasm", "module.c"))
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Modules do what intent says that they may, and nothing else, at a service and at a gateway, and one that has failed does to
// its own requests what its intent says, and nothing to others.
func TestModulesDoWhatTheyMay(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	module := wasmModule(t)
	sum := sha256.Sum256(module)
	prog, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: ` + newSigner(t).keys() + `, claims: "x-user": "sub"}
#Run: {owner: "shop", file: "module.wasm", digest: "` + hex.EncodeToString(sum[:]) + `", headers: sets: ["x-tenant"], config: kind: "shop", onFailure: string | *"admit", ...}
mesh: service: web: port: http: number: 80
mesh: service: app: {port: http: number: 80, retry: {attempts: 2, on: ["connect-failure"]}, grant: all: {from: ["web"], not: paths: ["/closed"]}, wasm: main: #Run}
mesh: service: early: {port: http: number: 80, grant: all: {from: ["web"], not: paths: ["/closed"]}, wasm: main: #Run & {slot: "before-access", onFailure: "refuse"}}
mesh: service: back: {port: http: number: 80, grant: all: {from: ["gateway/edge"], paths: ["/x", "/moved"]}}
mesh: service: signed: {port: http: number: 80, users: corp: {}, grant: all: from: ["gateway/edge"]}
mesh: gateway: edge: {port: http: number: 80, host: "shop.test": {wasm: main: #Run & {onFailure: "refuse"}, route: {
	all: to: back: 100
	free: {match: path: prefix: "/free", rewrite: prefix: "/x", to: back: 100, wasm: {}}
	moved: {match: path: exact: "/moved", redirect: path: "/new"}
}}}`)},
		"shop/module.wasm": {Data: module},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	const app, early, edge = 0, 1, 2
	reh, err := prog.Rehearse([]compiler.Request{{From: "shop/web", To: "shop/app"}, {From: "shop/web", To: "shop/early"}, {To: "gateway/shop/edge", Host: "shop.test"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	stage, err := rehearsal.Start(ctx, realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	ask := func(door int, path, deed string) rehearsal.Reply {
		t.Helper()
		r := compiler.Request{Path: path, Headers: []compiler.Header{{Name: "x-do", Value: deed}, {Name: "x-keep", Value: "here"}, {Name: "x-keep", Value: "there"}}}
		if door == edge {
			r.Host = "shop.test"
		}
		got, err := stage.Ask(ctx, reh.Doors[door], r)
		if err != nil {
			t.Fatalf("%s of %s at %d: %v", deed, path, door, err)
		}
		return got
	}
	for door := range reh.Doors {
		if got := ask(door, "/x", "tea"); got.Status != 418 || got.Text != "short and stout" || got.Seen != nil || fmt.Sprint(got.Headers["x-kind"]) != "[green]" {
			t.Errorf("door %d is answered by the module: %+v", door, got)
		}
		for deed, tenant := range map[string]string{
			"": "asked", "path": "asked", "nopath": "asked", "method": "asked", "host": "asked", "user": "asked", "who": "asked", "whom": "asked", "drop": "asked", "twice": "asked", "length": "asked",
			"split": "", "see": "nothing", "config": `{"kind":"shop"}`, "powers": "none",
		} {
			got := ask(door, "/x", deed)
			if got.Status != 200 || got.Seen == nil {
				t.Errorf("door %d, %q: %+v", door, deed, got)
				continue
			}
			h := got.Seen.Headers
			if said := strings.Join(h["x-tenant"], "|"); said != tenant {
				t.Errorf("door %d, %q: the application sees x-tenant %q, want %q", door, deed, said, tenant)
			}
			if got.Seen.Path != "/x" || got.Seen.Method != "GET" || got.Seen.Host == "other.test" || h["x-user"] != nil || fmt.Sprint(h["x-keep"]) != "[here there]" || h["content-length"] != nil || strings.Contains(fmt.Sprint(h), "eve") {
				t.Errorf("door %d, %q: the application sees %s %s of %s with %v", door, deed, got.Seen.Method, got.Seen.Path, got.Seen.Host, h)
			}
			if fmt.Sprint(got.Headers["x-module"]) != "[seen]" || got.Headers["meshc-not-answered"] != nil || len(got.Text) == 1 {
				t.Errorf("door %d, %q: answered %v, %q", door, deed, got.Headers, got.Text)
			}
		}
		for deed, status := range map[string]int{"mark": 503, "frame": 200, "status": 200} {
			if got := ask(door, "/x", deed); got.Status != status || got.Headers["transfer-encoding"] != nil || got.Headers["meshc-not-answered"] != nil {
				t.Errorf("door %d, %q: %+v", door, deed, got)
			}
		}
	}
	for _, c := range []struct {
		door   int
		path   string
		status int
	}{
		{early, "/closed", 418}, // before it is known whether he may come
		{app, "/closed", 403},
		{edge, "/moved", 418},
		{edge, "/free", 200},
	} {
		if got := ask(c.door, c.path, "tea"); got.Status != c.status {
			t.Errorf("%s at %d: %d, want %d", c.path, c.door, got.Status, c.status)
		}
	}
	n := 0
	for _, s := range stage.Seen() {
		if s.Target == "shop/app/http/default" && fmt.Sprint(s.Headers["x-do"]) == "[mark]" {
			n++
		}
	}
	if n != 0 {
		t.Errorf("what a module has answered was sent again %d times", n)
	}
	tenant := func(r rehearsal.Reply) string {
		if r.Seen == nil {
			return "nowhere"
		}
		return strings.Join(r.Seen.Headers["x-tenant"], "|")
	}
	for range 5 { // who refuses loads it again
		for _, door := range []int{early, edge} {
			if got := ask(door, "/x", "trap"); got.Status != 503 || got.Seen != nil {
				t.Errorf("door %d: a request that breaks the module: %+v", door, got)
			}
			for deadline := time.Now().Add(time.Minute); ; {
				got := ask(door, "/x", "")
				if got.Status == 200 && tenant(got) == "asked" {
					break
				}
				if got.Status != 503 || time.Now().After(deadline) {
					t.Fatalf("door %d: a module that had failed: %+v", door, got)
				}
			}
		}
		if got := ask(edge, "/free", "trap"); got.Status != 200 {
			t.Errorf("a route without module: %+v", got)
		}
		if got := ask(app, "/x", ""); got.Status != 200 || tenant(got) != "asked" {
			t.Errorf("what fails at one carrier is felt at another: %+v", got)
		}
	}
	if got := ask(app, "/x", "trap"); got.Status != 503 {
		t.Errorf("the request itself that breaks a module: %+v", got)
	}
	for range 5 { // who admits does without it
		if got := ask(app, "/x", "trap"); got.Status != 200 || tenant(got) != "" {
			t.Errorf("a module that has failed is passed: %+v", got)
		}
	}
}
