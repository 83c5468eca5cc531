package docs_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// documents are all Markdown files of the repository, by their paths.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(top, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".cache" || d.Name() == "bin" || d.Name() == "testdata"):
			return fs.SkipDir
		case !d.Type().IsRegular() || filepath.Ext(file) != ".md":
			return nil
		}
		b, err := os.ReadFile(file)
		name, _ := filepath.Rel(top, file) // both begin with top
		out[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 || out["README.md"] == "" || out["docs/start.md"] == "" {
		t.Fatalf("only %d documents are found: %q", len(out), slices.Sorted(maps.Keys(out)))
	}
	return out
}

// Every link from one document to another, or to a file, leads somewhere; the part behind
// "#" is a heading there.
func TestLinksLeadSomewhere(t *testing.T) {
	all := documents(t)
	n := 0
	for name, text := range all {
		for _, l := range linksOf(text) {
			n++
			if why := follow(all, name, l.to); why != "" {
				t.Errorf("%s:%d: %s: %s", name, l.line, l.to, why)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d links are found", n)
	}
}

// A link that leads nowhere is found.
func TestDeadLinksAreFound(t *testing.T) {
	all := map[string]string{"docs/a.md": "# One\n\n## `meshc wait`, it ends\n\n## One\n\n```sh\n# no heading\n```\n"}
	for to, dead := range map[string]bool{
		"a.md": false, "#one": false, "a.md#meshc-wait-it-ends": false, "#one-1": false, "https://example.com/": false, "../docs": false, "../README.md": false,
		"b.md": true, "#two": true, "#one-2": true, "a.md#no-heading": true, "../../../nowhere": true, "http://example.com/": true, "": true,
	} {
		if why := follow(all, "docs/a.md", to); (why != "") != dead {
			t.Errorf("%q: %q", to, why)
		}
	}
	text := "see [a](x.md), ![p](y.svg \"title\") and [b](<z.md>)\n\n```sh\n[c](no.md)\n```\n`[d](no.md)`\n[e]: w.md\n"
	if got := fmt.Sprint(linksOf(text)); got != "[{1 x.md} {1 y.svg} {1 z.md} {7 w.md}]" {
		t.Errorf("links are %s", got)
	}
}

type link struct {
	line int
	to   string
}

var (
	inline    = regexp.MustCompile(`\]\(<?([^)\s>]*)>?(?:\s+"[^"]*")?\)`)
	reference = regexp.MustCompile(`^\[[^\]]+\]:\s+(\S+)`)
	code      = regexp.MustCompile("`[^`]*`")
)

// linksOf finds links outside of code.
func linksOf(text string) (out []link) {
	for n, line := range prose(text) {
		line = code.ReplaceAllString(line, "``")
		for _, m := range inline.FindAllStringSubmatch(line, -1) {
			out = append(out, link{n + 1, m[1]})
		}
		if m := reference.FindStringSubmatch(line); m != nil {
			out = append(out, link{n + 1, m[1]})
		}
	}
	return out
}

// prose has an empty line for each line of a block.
func prose(text string) []string {
	out, inside := strings.Split(text, "\n"), false
	for i, line := range out {
		mark := fence.MatchString(line)
		if mark || inside {
			out[i] = ""
		}
		if mark {
			inside = !inside
		}
	}
	return out
}

// follow says why a link in a document leads nowhere. Others' sites are not asked.
func follow(all map[string]string, from, to string) string {
	if strings.HasPrefix(to, "https://") {
		return ""
	}
	file, anchor, _ := strings.Cut(to, "#")
	at := from
	switch {
	case to == "" || strings.Contains(file, ":"):
		return "neither a path nor https"
	case file != "":
		at = path.Join(path.Dir(from), file)
	}
	if _, ok := all[at]; !ok {
		if _, err := os.Stat(filepath.Join(top, at)); err != nil || strings.HasPrefix(at, "..") {
			return "there is no such file"
		}
	}
	if anchor != "" && !slices.Contains(anchors(all[at]), anchor) {
		return "there is no such heading"
	}
	return ""
}

// anchors are the names of headings as GitHub and GitLab make them.
func anchors(text string) (out []string) {
	seen := map[string]int{}
	for _, line := range prose(text) {
		hashes, words, ok := strings.Cut(line, " ")
		if !ok || hashes == "" || strings.Trim(hashes, "#") != "" {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsNumber(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(words))
		n := seen[name]
		if seen[name]++; n > 0 {
			name = fmt.Sprintf("%s-%d", name, n)
		}
		out = append(out, name)
	}
	return out
}
