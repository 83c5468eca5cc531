package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/parser"

	language "meshc.dev/meshc/schemas/reference"
)

var (
	inQuotes  = regexp.MustCompile("`([^`]+)`")
	key       = regexp.MustCompile(`([A-Za-z][A-Za-z0-9]*): `)
	testOf    = regexp.MustCompile(`^([a-z/-]+) (Test[A-Za-z0-9]+)$`)
	cited     = regexp.MustCompile(`in (\d+) rows, .* meshc has (\d+):`)
	withoutIt = "## What meshc does not have"
)

// rowsOf are the cells of a page's rows, without heads and lines below them.
func rowsOf(page string) (out [][]string) {
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| what ") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		out = append(out, cells)
	}
	return out
}

// wordsOf are the words of the language in a line of intent, or nothing for a command.
func wordsOf(intent string) (out []string) {
	known := map[string]bool{}
	for _, w := range language.Words(nil, nil) {
		known[w.Word[strings.LastIndexByte(w.Word, '.')+1:]] = true
	}
	for _, m := range key.FindAllStringSubmatch(intent, -1) {
		if known[m[1]] {
			out = append(out, m[1])
		}
	}
	return out
}

// proved is the text of what a proof names: a case, or the files of a test's package.
func proved(proof string) (string, error) {
	if strings.HasSuffix(proof, ".txtar") {
		b, err := os.ReadFile(filepath.Join(top, "compiler", "testdata", proof))
		return string(b), err
	}
	m := testOf.FindStringSubmatch(proof)
	if m == nil {
		return "", fmt.Errorf("%q is neither a case nor a test", proof)
	}
	names, err := filepath.Glob(filepath.Join(top, m[1], "*_test.go"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		if strings.Contains(string(b), "\nfunc "+m[2]+"(") {
			return string(b), nil
		}
	}
	return "", fmt.Errorf("no test %s in %s", m[2], m[1])
}

// Each row of docs/field.md has a proof that is there; the words of its line of intent stand in what
// proves it, and a command of it is one of meshc's. The numbers at the top are those of the rows.
func TestWhatIsSaidOfTheFieldIsProved(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(top, "docs/field.md"))
	if err != nil {
		t.Fatal(err)
	}
	has, lacks, ok := strings.Cut(string(b), withoutIt)
	if !ok {
		t.Fatalf("no %q", withoutIt)
	}
	rows, missing := rowsOf(has), rowsOf(lacks)
	said := cited.FindStringSubmatch(strings.ReplaceAll(has, "\n", " "))
	if want := []string{fmt.Sprint(len(rows) + len(missing)), fmt.Sprint(len(rows))}; said == nil || !slices.Equal(said[1:], want) {
		t.Errorf("the page counts %v, its rows are %v", said, want)
	}
	for _, r := range rows {
		if len(r) != 3 {
			t.Errorf("%v has %d cells", r, len(r))
			continue
		}
		var text strings.Builder
		proofs := inQuotes.FindAllStringSubmatch(r[2], -1)
		for _, p := range proofs {
			is, err := proved(p[1])
			if err != nil {
				t.Errorf("%s: %v", r[0], err)
			}
			text.WriteString(is)
		}
		if len(proofs) == 0 {
			t.Errorf("%s has no proof", r[0])
		}
		for _, how := range inQuotes.FindAllStringSubmatch(r[1], -1) {
			if strings.HasPrefix(how[1], "meshc") {
				continue // TestCommandsOfPagesExist
			}
			if _, err := parser.ParseFile("", how[1]); err != nil {
				t.Errorf("%s: `%s` is no CUE: %v", r[0], how[1], err)
			}
			words := wordsOf(how[1])
			if len(words) == 0 {
				t.Errorf("%s: `%s` has no word of the language", r[0], how[1])
			}
			for _, w := range words {
				if !regexp.MustCompile(`\b` + w + `:`).MatchString(text.String()) {
					t.Errorf("%s: nothing that proves it says %q", r[0], w)
				}
			}
		}
	}
	for _, r := range missing {
		if len(r) < 2 || r[1] == "" && r[len(r)-1] == "" {
			t.Errorf("%v does not say why", r)
		}
	}
}
