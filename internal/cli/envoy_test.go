package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
)

const bookinfo = "../../examples/bookinfo/intent"

// run is the command line in this process.
func run(args ...string) (code diag.ExitCode, stdout, stderr string) {
	var out, err bytes.Buffer
	c := Main(args, strings.NewReader(""), &out, &err)
	return diag.ExitCode(c), out.String(), err.String()
}

// envoy is a real Envoy behind a script that may do something before. In it, $2
// is the bootstrap of a run with --config-path, "$real" the Envoy.
func envoy(t *testing.T, before string) string {
	t.Helper()
	bin, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // what others have proved does not count
	path := filepath.Join(t.TempDir(), "envoy")
	script := fmt.Sprintf("#!/bin/sh\nreal='%s'\n[ \"$1\" = --version ] && exec \"$real\" --version\n%s\nexec \"$real\" \"$@\"\n", bin.Path, before)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVetAndCompileAskARealEnvoy(t *testing.T) {
	e := envoy(t, "")
	code, out, errs := run("vet", bookinfo, "--env", "local", "--envoy-path", e)
	if code != diag.ExitOK || !strings.Contains(out, "resources accepted by Envoy 1.40") {
		t.Errorf("vet = %d\n%s%s", code, out, errs)
	}
	release := filepath.Join(t.TempDir(), "release")
	code, out, errs = run("compile", bookinfo, "--env", "local", "--out", release, "--envoy-path", e)
	if code != diag.ExitOK || !strings.Contains(out, "resources accepted by Envoy 1.40") {
		t.Errorf("compile = %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(release, "manifest.json")); err != nil {
		t.Error(err)
	}
}

// refusing is an Envoy that has something against one cluster.
const refusing = `
case "$*" in *validate*)
	config=$(echo "$*" | sed 's/.*--config-path \([^ ]*\).*/\1/')
	grep -q '"name": *"bookinfo/reviews/http/v2"' "$config" && { echo '[critical] I do not like v2' >&2; exit 1; }
esac`

func TestWhatEnvoyRefusesIsToldInEveryForm(t *testing.T) {
	e := envoy(t, refusing)
	for format, want := range map[string]string{
		"text": "bookinfo/reviews.cue:", "json": `"MESH0330"`, "sarif": `"ruleId": "MESH0330"`, "junit": "MESH0330", "github": "examples/bookinfo/intent/bookinfo/reviews.cue,line=",
	} {
		t.Run(format, func(t *testing.T) {
			release := filepath.Join(t.TempDir(), "release")
			for _, args := range [][]string{{"vet", bookinfo, "--env", "local"}, {"compile", bookinfo, "--env", "local", "--out", release}} {
				code, out, errs := run(append(args, "-o", format, "--envoy-path", e)...)
				if all := out + errs; code != diag.ExitInvalid || !strings.Contains(all, want) || !strings.Contains(all, "I do not like v2") {
					t.Errorf("%v = %d\n%s", args, code, all)
				}
			}
			if _, err := os.Stat(release); err == nil {
				t.Error("a refused release was written")
			}
		})
	}
}

func TestAMissingEnvoyIsNoVerdict(t *testing.T) {
	for _, args := range [][]string{{"vet", bookinfo, "--env", "local"}, {"compile", bookinfo, "--env", "local", "--out", filepath.Join(t.TempDir(), "r")}, {"test", bookinfo, "--env", "local"}} {
		code, out, errs := run(append(args, "--envoy-path", "/no/such/envoy")...)
		if code != diag.ExitFailure || !strings.Contains(errs, string(diag.CodeEnvoyMissing)) {
			t.Errorf("%v = %d\n%s%s", args, code, out, errs)
		}
	}
}

func TestTestBlocksOnRealEnvoys(t *testing.T) {
	code, out, errs := run("test", bookinfo, "--env", "local", "--envoy-path", envoy(t, ""))
	if code != diag.ExitOK || !strings.Contains(out, "8 passed, 0 failed on the evaluator and on Envoy 1.40") {
		t.Errorf("test = %d\n%s%s", code, out, errs)
	}
}

// A compiler's mistake is played by changing what reaches Envoy: requests for
// /reviews/… are granted nowhere.
func TestADisagreementOfEvaluatorAndEnvoyFails(t *testing.T) {
	e := envoy(t, `sed -i 's#"/reviews/"#"/revues/"#g' "$2"`)
	code, out, _ := run("test", bookinfo, "--env", "local", "--envoy-path", e)
	for _, want := range []string{"FAIL  testers see black stars", "bookinfo/tests.cue:", "MESH0341", "7 passed, 1 failed", "answer was 403"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code != diag.ExitInvalid {
		t.Errorf("exit code %d", code)
	}
	_, out, _ = run("test", bookinfo, "--env", "local", "-o", "json", "--envoy-path", e)
	var report struct {
		Tests []struct {
			Name, Rehearsal string
			Envoy           struct{ Status int }
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Tests) != 8 {
		t.Fatalf("%v in\n%s", err, out)
	}
	for _, r := range report.Tests {
		if bad := r.Name == "testers see black stars"; bad != (r.Rehearsal != "") || r.Envoy.Status == 0 {
			t.Errorf("got %+v", r)
		}
	}
}

// Envoys are interrupted while they start, while they run, and while they judge.
func TestAnInterruptLeavesNoEnvoy(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		before  string
		started int
	}{
		"vet": {[]string{"vet", bookinfo, "--env", "local"}, `exec sleep 600`, 1},
		// None of them ever answers.
		"test, while starting": {[]string{"test", bookinfo, "--env", "local"}, `exec sleep 600`, 2},
		"test, all running":    {[]string{"test", bookinfo, "--env", "local"}, ``, 5},
	} {
		t.Run(name, func(t *testing.T) {
			pids := filepath.Join(t.TempDir(), "pids")
			e := envoy(t, fmt.Sprintf("echo $$ >>'%s'\n%s", pids, c.before))
			type end struct {
				code diag.ExitCode
				errs string
			}
			done := make(chan end, 1)
			go func() {
				code, _, errs := run(append(c.args, "--envoy-path", e)...)
				done <- end{code, errs}
			}()
			deadline := time.After(time.Minute)
			for len(started(t, pids)) < c.started {
				select {
				case got := <-done:
					t.Fatalf("it ended by itself: %+v", got)
				case <-deadline:
					t.Fatal("no Envoy was started")
				case <-time.After(5 * time.Millisecond):
				}
			}
			if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-done:
				if got.code != 130 || !strings.Contains(got.errs, "interrupted") {
					t.Errorf("got %+v", got)
				}
			case <-deadline:
				t.Fatal("it did not end")
			}
			for _, pid := range started(t, pids) {
				if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
					t.Errorf("process group %d is still there: %v", pid, err)
				}
			}
		})
	}
}

// started are the processes that a script noted: leaders of their groups.
func started(t *testing.T, file string) []int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out []int
	for line := range strings.Lines(string(b)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, pid)
	}
	return out
}
