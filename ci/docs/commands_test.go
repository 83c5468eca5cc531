package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A page may show what only a cluster or a registry could run. Of every command of ours
// that any page shows, in a block or between backquotes, the words and flags exist.
func TestCommandsOfPagesExist(t *testing.T) {
	t.Setenv("PATH", searched())
	known := words(t)
	pages, err := filepath.Glob(filepath.Join(top, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"} {
		pages = append(pages, filepath.Join(top, name))
	}
	seen := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range shown(string(text)) {
			seen++
			if wrong := known.wrong(c); wrong != "" {
				t.Errorf("%s: %s: %s", filepath.Base(page), strings.Join(c, " "), wrong)
			}
		}
	}
	if seen < 150 {
		t.Errorf("only %d commands were found", seen)
	}
}

// The examples of each help are commands that exist.
func TestExamplesOfHelpExist(t *testing.T) {
	t.Setenv("PATH", searched())
	known := words(t)
	for command := range known {
		if strings.HasPrefix(command, "meshc-agent") {
			continue
		}
		_, examples, ok := strings.Cut(output(t, "meshc", append(strings.Fields(command)[1:], "--help")...), "\nExamples:\n")
		if examples, _, _ = strings.Cut(examples, "\n\n"); !ok {
			continue
		}
		for _, c := range shown("```\n" + examples + "\n```\n") {
			if wrong := known.wrong(c); wrong != "" {
				t.Errorf("help of %s: %s: %s", command, strings.Join(c, " "), wrong)
			}
		}
	}
}

// What does not exist is found, however the command is written.
func TestWrongCommandsAreFound(t *testing.T) {
	known := commands{"meshc": {"--help": true}, "meshc vet": {"--env": true, "-o": true}, "meshc policy": {}, "meshc policy new": {"--object": true}, "meshc-agent": {"--state": true}}
	for text, want := range map[string]string{
		"`meshc vte`":                       "there is no such command",
		"`meshc policy nex`":                "there is no such command",
		"`meshc vet --evn x`":               "it has no --evn",
		"```\n$ A=b meshc vet mesh -x\n```": "it has no -x",
		"```\nmeshc vet \\\n  --evn prod | tee --append log\n```":     "it has no --evn",
		"```\nuntil x=$(meshc vet --evn=prod); do :; done\n```":       "it has no --evn",
		"```\nmeshc-agent --state-dir x -- --concurrency 1 &\n```":    "it has no --state-dir",
		"```\nmeshc vet --env prod && meshc policy nex\n```":          "there is no such command",
		"`meshc vet mesh --env prod -o json` and `meshc --help`":      "",
		"```\nmeshc vet \"a --evn b\" >log --evn # --evn\n```":        "",
		"```\nmeshc-agent --state x -- --concurrency 1\n```":          "",
		"`meshc`, `meshc.dev/x`, `meshc-state`, meshc vet --evn told": "",
	} {
		var got []string
		for _, c := range shown(text) {
			if wrong := known.wrong(c); wrong != "" {
				got = append(got, wrong)
			}
		}
		if all := strings.Join(got, "; "); all != want {
			t.Errorf("%s: %q, want %q", text, all, want)
		}
	}
}

// commands are the flags, long and short, of each command by its words.
type commands map[string]map[string]bool

var shortFlag = regexp.MustCompile(`(?m)^ +(-\w), --`)

// words asks both programs what they have.
func words(t *testing.T) commands {
	t.Helper()
	out := commands{}
	flags := func(help string) map[string]bool {
		has := map[string]bool{"--help": true, "-h": true}
		for _, m := range flagLine.FindAllStringSubmatch(help, -1) {
			has["--"+m[1]] = true
		}
		for _, m := range shortFlag.FindAllStringSubmatch(help, -1) {
			has[m[1]] = true
		}
		return has
	}
	var visit func(command []string)
	visit = func(command []string) {
		help := output(t, "meshc", append(slices.Clone(command), "--help")...)
		_, own, _ := strings.Cut(help, "\nFlags:\n")
		out[strings.Join(append([]string{"meshc"}, command...), " ")] = flags(own)
		_, below, _ := strings.Cut(help, "\nAvailable Commands:\n")
		below, _, _ = strings.Cut(below, "\n\n")
		for line := range strings.Lines(below) {
			visit(append(slices.Clone(command), strings.Fields(line)[0]))
		}
	}
	visit(nil)
	out["meshc-agent"] = flags(output(t, "meshc-agent", "--help"))
	out["meshc-agent redirect"] = flags(output(t, "meshc-agent", "redirect", "--help"))
	return out
}

// jobs are GitLab's that are called "meshc judge" and so on (ci/templates/gitlab).
func jobs() []string { return []string{"judge", "comment"} }

// wrong says what of a command does not exist, "" if all of it does.
func (known commands) wrong(words []string) string {
	name, rest := words[0], words[1:]
	for len(rest) > 0 && known[name+" "+rest[0]] != nil {
		name, rest = name+" "+rest[0], rest[1:]
	}
	group := func() bool {
		for other := range known {
			if strings.HasPrefix(other, name+" ") && name != "meshc-agent" && other != "meshc webhook status" {
				return true
			}
		}
		return false
	}
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") && group() {
		if rest[0] == strings.ToUpper(rest[0]) || slices.Contains(jobs(), rest[0]) {
			return "" // a word in place of one
		}
		return "there is no such command"
	}
	for _, w := range rest {
		flag, _, _ := strings.Cut(w, "=")
		switch {
		case w == "--":
			return ""
		case len(w) > 1 && w[0] == '-' && !known[name][flag]:
			return "it has no " + flag
		}
	}
	return ""
}

var (
	begins    = regexp.MustCompile(`(?:^|[|;&(]|\b(?:until|while|if|do|then|exec|sudo|run:)|\$|\w=\S*)\s*((?:meshc|meshc-agent) )`)
	quoted    = regexp.MustCompile("`((?:meshc|meshc-agent) [^`]+)`")
	shellWord = regexp.MustCompile(`"[^"]*"|'[^']*'|\$\([^)]*\)|[^\s"'|;&<>()#]+|[|;&<>()#]`)
)

// shown are the commands of ours in a page, each as its words, up to what ends it in a
// shell.
func shown(text string) [][]string {
	var lines []string
	fenced := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
		case fenced && len(lines) > 0 && strings.HasSuffix(lines[len(lines)-1], "\\\n"):
			lines[len(lines)-1] = strings.TrimSuffix(lines[len(lines)-1], "\\\n") + line
		case fenced:
			lines = append(lines, line)
		default:
			for _, m := range quoted.FindAllStringSubmatch(line, -1) {
				lines = append(lines, m[1]+"\n")
			}
		}
	}
	var out [][]string
	for _, line := range lines {
		for _, at := range begins.FindAllStringSubmatchIndex(line, -1) {
			var c []string
			for _, w := range shellWord.FindAllString(line[at[2]:], -1) {
				if strings.ContainsAny(w[:1], "|;&<>()#") {
					break
				}
				c = append(c, strings.TrimRight(w, ",.:…"))
			}
			out = append(out, c)
		}
	}
	return out
}
