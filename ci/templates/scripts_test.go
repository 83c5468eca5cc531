package templates_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is installed is what is pinned, whatever the folder says in which CI starts it.
func TestInstallKeepsToThePin(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module evil\n\ngo 1.21\n\nrequire meshc.dev/meshc v6.6.6\n", "go.work": "go 1.21\n\nuse .\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	_, out := w.run(t.Context(), t.TempDir(), w.environment(nil), "go", "mod", "download", "-json", "meshc.dev/meshc@"+pinned)
	var module struct{ Sum string }
	must(t, json.Unmarshal([]byte(out), &module))
	for name, c := range map[string]struct {
		version string
		code    int
		says    string
	}{
		"the shipped file":  {"", 0, "meshc 0.1.0"},
		"a checksum":        {"MESHC_VERSION=" + pinned + "\nMESHC_SUM=" + module.Sum + "\n", 0, "meshc 0.1.0"},
		"another checksum":  {"MESHC_VERSION=" + pinned + "\nMESHC_SUM=h1:AAAA\n", 1, "has the checksum " + module.Sum + ", and"},
		"a branch":          {"MESHC_VERSION=latest\n", 1, "latest is no version"},
		"a missing version": {"MESHC_VERSION=v0.0.9\n", 1, "v0.0.9"},
	} {
		t.Run(name, func(t *testing.T) {
			scripts := t.TempDir()
			must(t, os.CopyFS(scripts, os.DirFS("scripts")))
			if c.version != "" {
				must(t, os.WriteFile(filepath.Join(scripts, "version"), []byte(c.version), 0o600))
			}
			bin := t.TempDir()
			code, out := w.run(t.Context(), dir, w.environment(map[string]string{"MESHC_BIN": bin}), "sh", filepath.Join(scripts, "install.sh"))
			if code != c.code {
				t.Errorf("%d, not %d\n%s", code, c.code, out)
			}
			contains(t, "log", out, c.says)
			if _, err := os.Stat(filepath.Join(bin, "meshc")); (err == nil) != (c.code == 0) {
				t.Errorf("installed: %v", err)
			}
		})
	}
	// `go install meshc.dev/meshc/cmd/meshc@…` takes no module that replaces others.
	text, err := os.ReadFile("../../go.mod")
	must(t, err)
	if strings.Contains(string(text), "\nreplace") {
		t.Error("go.mod replaces a module: nobody can install meshc then")
	}
}

// Programs that are there are not installed again; what is missing is named to the
// machine's package manager.
func TestToolsInstallsWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	script, err := filepath.Abs("scripts/tools.sh")
	must(t, err)
	for name, c := range map[string]struct {
		manager string // a stand-in for it that tells how it was called
		code    int
		says    string
	}{
		"apt":  {"apt-get", 0, "apt-get update -qq\napt-get install -qq --yes --no-install-recommends ca-certificates no-such-program\n"},
		"apk":  {"apk", 0, "apk add --quiet --no-progress no-such-program\n"},
		"none": {"", 1, "meshc: install no-such-program\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.manager != "" {
				must(t, os.WriteFile(filepath.Join(dir, c.manager), []byte("#!/bin/sh\necho \"$(basename \"$0\")\" \"$@\"\n"), 0o700))
			}
			for _, p := range []string{"sh", "git", "basename"} {
				must(t, os.Symlink(which(t, p), filepath.Join(dir, p)))
			}
			env := append(w.environment(nil), "PATH="+dir)
			if code, out := w.run(t.Context(), dir, env, "sh", script, "git", "no-such-program"); code != c.code || out != c.says {
				t.Errorf("%d\n%s", code, out)
			}
			if code, out := w.run(t.Context(), dir, env, "sh", script, "git"); code != 0 || out != "" {
				t.Errorf("with all there: %d\n%s", code, out)
			}
		})
	}
}

func which(t *testing.T, program string) string {
	t.Helper()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if p := filepath.Join(dir, program); !strings.HasPrefix(dir, ".") {
			if st, err := os.Stat(p); err == nil && !st.IsDir() {
				return p
			}
		}
	}
	t.Fatalf("there is no %s", program)
	return ""
}
