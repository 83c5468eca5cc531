// Package golden runs tests whose cases are text archives.
//
// In: a folder of *.txtar files, one case each, whose first comment line says
// what the case proves, and a function from a case's input sections to the
// sections that it produces. Out: one subtest per file. Expected are the sections
// under "want/"; a section NAME.base64 holds the bytes of NAME; a case holds only those that it is about, except "want/diag",
// which is always compared: absent means empty. With the flag -update the
// expected sections are rewritten instead of compared, and the change is
// reviewed as a diff. There are no options per case.
package golden

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// Want is the prefix of the sections that a case expects.
const Want = "want/"

// Diag is the section that is compared in every case, present or not.
const Diag = Want + diagName

const diagName = "diag"

// The flag is shared by every test that compares with a file: one word rewrites all.
//
//nolint:gochecknoglobals // a flag of the test binary has to be registered before the flags are parsed.
var update = flag.Bool("update", false, "rewrite the expected files instead of comparing with them")

// Updating reports whether expected files are to be rewritten.
func Updating() bool { return *update }

// Case is one archive.
type Case struct {
	// Name is the file's name without its extension.
	Name string
	// About is the comment's first line, without "# ".
	About string
	// In maps the names of the input sections to their bytes.
	In map[string][]byte
	// Wants are the names of the expected sections, sorted, without the prefix.
	Wants []string
}

// Has reports whether the case expects that section (without the prefix).
func (c Case) Has(section string) bool { return slices.Contains(c.Wants, section) }

// Run runs every *.txtar file in dir (below the test's package, usually
// "testdata") as a subtest. f returns the produced sections by name, without the
// prefix; it may return more than the case expects, but every expected one must
// be among them. A folder without cases is a failure.
func Run(t *testing.T, dir string, f func(t *testing.T, c Case) map[string][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		t.Fatalf("listing cases in %q: %v", dir, err)
	}
	if len(files) == 0 {
		t.Fatalf("no *.txtar case in %q", dir)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runFile(t, file, f) })
	}
}

func runFile(t *testing.T, file string, f func(t *testing.T, c Case) map[string][]byte) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("reading case: %v", err)
	}
	a := txtar.Parse(raw)
	decoded, err := decode(a)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	c, err := parse(strings.TrimSuffix(filepath.Base(file), ".txtar"), decoded)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	got := f(t, c)
	if t.Failed() {
		return // what a failed run produced is no expectation
	}
	if Updating() {
		if err := rewrite(file, a, got); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		return
	}
	for _, p := range compare(a, got) {
		t.Errorf("%s: %s", file, p)
	}
}

// encoded is how the name of a section ends that holds in base64 what is no text. The file of that section has the name without.
const encoded = ".base64"

// Archive reads one, with the bytes of what is encoded in it.
func Archive(file string) (*txtar.Archive, error) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		return nil, err
	}
	return decode(a)
}

func decode(a *txtar.Archive) (*txtar.Archive, error) {
	out := &txtar.Archive{Comment: a.Comment, Files: slices.Clone(a.Files)}
	for i, s := range out.Files {
		name, ok := strings.CutSuffix(s.Name, encoded)
		if !ok {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(s.Data)))
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", s.Name, err)
		}
		out.Files[i] = txtar.File{Name: name, Data: b}
	}
	return out, nil
}

// compare returns what differs between the expected sections of a and got.
func compare(a *txtar.Archive, got map[string][]byte) []string {
	var problems []string
	sawDiag := false
	for _, s := range a.Files {
		name, ok := strings.CutPrefix(s.Name, Want)
		if !ok {
			continue
		}
		sawDiag = sawDiag || s.Name == Diag
		out, ok := got[name]
		if !ok && s.Name != Diag {
			problems = append(problems, missing(s.Name, got))
			continue
		}
		if d := cmp.Diff(string(s.Data), string(normal(out))); d != "" {
			problems = append(problems, "section "+s.Name+" differs (-want +got, -update rewrites):\n"+d)
		}
	}
	if d := got[diagName]; !sawDiag && len(d) > 0 {
		problems = append(problems, "problems, though the case expects none (no section "+Diag+"):\n"+string(d))
	}
	return problems
}

// rewrite replaces the expected sections in the file. Sections of the inputs and
// the comment stay byte for byte. A "want/diag" appears or disappears with the
// problems.
func rewrite(file string, a *txtar.Archive, got map[string][]byte) error {
	before := txtar.Format(a)
	var out []txtar.File
	sawDiag := false
	for _, s := range a.Files {
		name, ok := strings.CutPrefix(s.Name, Want)
		switch data, made := got[name]; {
		case !ok:
		case s.Name == Diag:
			sawDiag = true
			if len(data) == 0 {
				continue
			}
			s.Data = normal(data)
		case !made:
			text := missing(s.Name, got)
			if d := got[diagName]; len(d) > 0 {
				text += "; the problems are:\n" + string(d)
			}
			return formError(text)
		default:
			s.Data = normal(data)
		}
		out = append(out, s)
	}
	if d := got[diagName]; !sawDiag && len(d) > 0 {
		out = append(out, txtar.File{Name: Diag, Data: normal(d)})
	}
	after := txtar.Format(&txtar.Archive{Comment: a.Comment, Files: out})
	if bytes.Equal(before, after) {
		return nil
	}
	return os.WriteFile(file, after, 0o644)
}

func missing(section string, got map[string][]byte) string {
	return "section " + section + " is expected but was not produced (produced: " + names(got) + ")"
}

func names(got map[string][]byte) string {
	return strings.Join(slices.Sorted(maps.Keys(got)), ", ")
}

// normal ends non-empty text in a line feed, as every section of an archive does.
func normal(b []byte) []byte {
	if len(b) == 0 || b[len(b)-1] == '\n' {
		return b
	}
	return append(bytes.Clone(b), '\n')
}

// parse checks the form of a case.
func parse(name string, a *txtar.Archive) (Case, error) {
	first, _, _ := strings.Cut(string(a.Comment), "\n")
	about, ok := strings.CutPrefix(first, "# ")
	if !ok || strings.TrimSpace(about) == "" {
		return Case{}, errNoAbout
	}
	c := Case{Name: name, About: about, In: map[string][]byte{}}
	seen := map[string]bool{}
	for _, s := range a.Files {
		if seen[s.Name] {
			return Case{}, &repeatedError{s.Name}
		}
		seen[s.Name] = true
		if w, ok := strings.CutPrefix(s.Name, Want); ok {
			c.Wants = append(c.Wants, w)
			continue
		}
		c.In[s.Name] = s.Data
	}
	slices.Sort(c.Wants)
	return c, nil
}

type formError string

func (e formError) Error() string { return string(e) }

const errNoAbout = formError("the first line must be a comment that says what the case proves: # …")

type repeatedError struct{ section string }

func (e *repeatedError) Error() string { return "section " + e.section + " stands twice" }
