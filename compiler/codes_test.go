package compiler_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

const codesDir = "testdata/codes"

// Each case is intent that somebody could write by mistake, and what they read.
// Its name begins with the code that it is about; options are those of
// TestWholePipeline, and "tail N" shows the last N problems only.
func TestCodes(t *testing.T) {
	golden.Run(t, codesDir, func(t *testing.T, c golden.Case) map[string][]byte {
		files, opts := fstest.MapFS{}, map[string]string{"at": compileDate}
		for name, b := range c.In {
			if name != "options" {
				files[name] = &fstest.MapFile{Data: b}
				continue
			}
			for _, l := range lines(b) {
				k, v, _ := strings.Cut(l, " ")
				opts[k] = v
			}
		}
		at, err := time.Parse(time.RFC3339, opts["at"])
		if err != nil {
			t.Fatal(err)
		}
		// They are told each time, whatever is remembered.
		ds := problemsOf(files, compiler.Options{Environment: opts["env"], At: at})
		memory := remembering(at)
		memory.Environment = opts["env"]
		for _, of := range []string{"an empty memory", "a full one"} {
			if got := text(problemsOf(files, memory)); !bytes.Equal(got, text(ds)) {
				t.Errorf("with %s: %s", of, got)
			}
		}
		code, _, _ := strings.Cut(c.Name, "-")
		met := false
		for _, d := range ds {
			met = met || string(d.Code) == code
			// What is not about a file is about the repository, a flag or the machine.
			if d.Fix == "" && !saysWhatIsWanted(d.Text) {
				t.Errorf("%s: %q has no way out", d.Code, d.Text)
			}
		}
		if !met {
			t.Errorf("the case does not meet %s: %s", code, text(ds))
		}
		if n, err := strconv.Atoi(opts["tail"]); err == nil {
			ds = ds[len(ds)-n:]
		}
		return map[string][]byte{"diag": text(ds)}
	})
}

// problemsOf are those of a compile.
func problemsOf(files fstest.MapFS, o compiler.Options) diag.List {
	p, ds := compiler.Load(files, o)
	if p != nil {
		_, more := p.Release()
		ds = append(ds, more...)
	}
	return ds
}

// saysWhatIsWanted: "got X, want Y" is its own way out.
func saysWhatIsWanted(s string) bool { return strings.Contains(s, ", want ") }

// elsewhere are the codes of the compiler's bands that no intent brings about, and
// what does: a test, or nothing that a test can do on this system.
func elsewhere() map[diag.Code]string {
	const (
		files    = "compiler/internal/source/read_test.go"
		checkout = "cmd/meshc/testdata/script/checkout.txtar"
		limits   = "internal/compile/bombs_test.go"
		envoy    = "internal/envoybin/envoybin_test.go"
		proof    = "internal/proof/proof_test.go"
		emit     = "compiler/internal/target/envoy/testdata/problems.txtar"
		tests    = "cmd/meshc/testdata/script/test.txtar"
		coverage = "cmd/meshc/testdata/script/coverage.txtar"
	)
	return map[diag.Code]string{
		diag.CodeStaged: checkout, diag.CodeNotCheckedOut: checkout,
		diag.CodeUnreadable: files, diag.CodeSymlink: files, diag.CodeTooLarge: files,
		diag.CodeMemoryLimit: limits, diag.CodeTimeLimit: limits, diag.CodeOutputLimit: limits, diag.CodeSandbox: limits, diag.CodeCompileLimit: limits, diag.CodeNotEvaluated: limits,
		diag.CodeUnlimited: "not on Linux",
		// The linker refuses what these guard against.
		diag.CodeNoAnswer: emit, diag.CodeAddress: emit, diag.CodeInconsistent: "compiler/internal/target/envoy/testdata/refused.txtar",
		diag.CodeEnvoyMissing: envoy, diag.CodeEnvoyVersion: envoy, diag.CodeEnvoyDigest: envoy, diag.CodeEnvoyBroken: envoy,
		diag.CodeEnvoyPlatform: "not on Linux", diag.CodeEnvoyFetch: envoy,
		diag.CodeEnvoyRejected: envoy, diag.CodeEnvoyNotReady: envoy, diag.CodeEnvoyDeprecated: proof, diag.CodeEnvoyCrashed: proof,
		diag.CodeProofFrame: proof, diag.CodeRehearsal: "internal/cli/envoy_test.go",
		diag.CodeAbrupt:     "compiler/testdata/plan/account-renamed.txtar",
		diag.CodeTestFailed: tests, diag.CodeNoTest: tests, diag.CodeUntested: coverage,
	}
}

// Every code that a compile can give has a case, and every other one a test that
// names it.
func TestEveryCodeIsShown(t *testing.T) {
	declared, other := declaredCodes(t), elsewhere()
	shown := map[string]bool{}
	cases, err := filepath.Glob(filepath.Join(codesDir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range cases {
		code, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(f), ".txtar"), "-")
		if shown[code] = true; declared[code] == "" {
			t.Errorf("%s is about %q, which is no code", f, code)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(declared)) {
		if band := strings.TrimPrefix(code, "MESH")[:2]; band > "03" {
			continue
		}
		where, listed := other[diag.Code(code)]
		switch {
		case shown[code] && listed:
			t.Errorf("%s has a case and is listed as tested in %s", code, where)
		case !shown[code] && !listed:
			t.Errorf("%s (%s) has no case in %s", code, declared[code], codesDir)
		case listed && !strings.HasPrefix(where, "not on "):
			src, err := os.ReadFile(filepath.Join("..", where))
			if err != nil {
				t.Errorf("%s: %v", code, err)
			} else if !bytes.Contains(src, []byte(code)) && !regexp.MustCompile(`\b`+declared[code]+`\b`).Match(src) {
				t.Errorf("%s does not name %s (%s)", where, declared[code], code)
			}
		}
	}
}

// declaredCodes maps each code to the name of its constant.
func declaredCodes(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../internal/diag/codes_*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no codes: %v", err)
	}
	decl := regexp.MustCompile(`(?m)^\t(Code\w+)\s+Code = "(MESH\d{4})"`)
	out := map[string]string{}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range decl.FindAllSubmatch(src, -1) {
			out[string(m[2])] = string(m[1])
		}
	}
	return out
}
