package tools

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// toy puts a module with one program beside a test, as ci/tools/toy of a repository of
// its own, and makes the cache a folder of the test.
func toy(t *testing.T, says string) (tool Tool, cache string) {
	t.Helper()
	repo, cache := t.TempDir(), t.TempDir()
	write(t, filepath.Join(repo, "ci", "tools", "toy", "go.mod"), "module toy\n\ngo 1.26.0\n")
	write(t, filepath.Join(repo, "ci", "tools", "toy", "main.go"), says)
	t.Chdir(repo)
	t.Setenv("MESHC_TOOLS", cache)
	t.Setenv("GOFLAGS", "-mod=mod -race") // of the caller; no business of tools
	write(t, filepath.Join(repo, "ci", "tools", "toy", "animal.yaml"), "kind: Animal\n")
	return Tool{Name: "toy", Packages: []string{"."}, Names: []string{"sheep", "goat"}, Files: []Files{{"toy", "*.yaml"}}}, cache
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const speaker = `package main

import ("fmt"; "os"; "path/filepath")

func main() { fmt.Println(filepath.Base(os.Args[0]), "says hello") }
`

func TestAToolIsBuiltOnce(t *testing.T) {
	tool, cache := toy(t, speaker)
	// Left by a build that was killed.
	write(t, filepath.Join(cache, "build-1", "toy"), "half")
	var progress bytes.Buffer
	dir, err := Find(t.Context(), tool, &progress)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(progress.String(), "building ci/tools/toy") {
		t.Errorf("nobody was told of the build: %q", progress.String())
	}
	for _, name := range tool.Names {
		out, err := exec.Command(filepath.Join(dir, name)).CombinedOutput()
		if err != nil || string(out) != name+" says hello\n" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "animal.yaml")); err != nil || string(text) != "kind: Animal\n" {
		t.Errorf("beside the programs: %q, %v", text, err)
	}
	progress.Reset()
	if again, err := Find(t.Context(), tool, &progress); err != nil || again != dir || progress.Len() > 0 {
		t.Errorf("looked for again: %q, %v, %q", again, err, progress.String())
	}
	write(t, filepath.Join("ci", "tools", "toy", "main.go"), strings.Replace(speaker, "hello", "goodbye", 1))
	if changed, err := Find(t.Context(), tool, &progress); err != nil || changed == dir {
		t.Errorf("after a change: %q, %v", changed, err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "build-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOfManyOneBuilds(t *testing.T) {
	tool, _ := toy(t, speaker)
	var wg sync.WaitGroup
	var told [4]bytes.Buffer
	for i := range told {
		wg.Go(func() {
			if _, err := Find(t.Context(), tool, &told[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	builds := 0
	for i := range told {
		builds += strings.Count(told[i].String(), "built ci/tools/toy")
	}
	if builds != 1 {
		t.Errorf("%d builds", builds)
	}
}

// A tool that does not build is an error with the compiler's words, and is not there.
func TestABrokenToolIsAnError(t *testing.T) {
	tool, cache := toy(t, "package main\n\nfunc main() { undefined() }\n")
	for range 2 {
		if _, err := Find(t.Context(), tool, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
			t.Errorf("%v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "*-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	write(t, filepath.Join("ci", "tools", "toy", "main.go"), speaker)
	tool.Files = []Files{{"toy", "nothing/*"}}
	if _, err := Find(t.Context(), tool, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "toy has no nothing/*") {
		t.Errorf("%v", err)
	}
	if _, err := Find(t.Context(), Tool{Name: "nothing"}, &bytes.Buffer{}); err == nil {
		t.Error("a tool without a module was found")
	}
}

// The programs know the version that go.mod pins.
func TestKubeIsStamped(t *testing.T) {
	goMod, err := os.ReadFile(filepath.Join("kube", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	flags, err := stampKube(goMod)
	if err != nil || !strings.Contains(strings.Join(flags, " "), "gitVersion=v1.") {
		t.Errorf("%v, %v", flags, err)
	}
	if _, err := stampKube([]byte("module meshc.dev/tools/kube\n")); err == nil {
		t.Error("a go.mod without Kubernetes has a version")
	}
}
