package docs_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/programs"
)

const top = "../.."

// patience is how long a page may take: none waits for more than its own programs.
const patience = 4 * time.Minute

// unrun is how many blocks of all pages are not run. Each says why; whoever adds one looks
// here first.
const unrun = 9

// pages are run by this package, from the top folder.
func pages() []string {
	return []string{"README.md", "docs/approval.md", "docs/endpoints.md", "docs/environments.md", "docs/import.md", "docs/operating.md", "docs/ownership.md", "docs/policies-of-your-own.md", "docs/signing.md", "docs/sources.md", "docs/start.md", "docs/troubleshooting.md"}
}

// Every command of the pages is run, and what they show is what is printed.
func TestPagesAreTrue(t *testing.T) {
	at := place{path: searched()}
	var not []string
	for _, name := range pages() {
		p := pageOf(t, name)
		for _, why := range p.unrun {
			not = append(not, name+" "+why)
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			at := at
			at.home = short(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := run(ctx, p, at); err != nil {
				t.Fatalf("%s, %v", name, err)
			}
		})
	}
	if len(not) != unrun {
		t.Errorf("%d blocks are not run, not %d:\n%s", len(not), unrun, strings.Join(not, "\n"))
	}
}

func pageOf(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Fatal(err)
	}
	p, err := read(string(text))
	if err != nil {
		t.Fatalf("%s, %v", name, err)
	}
	if p.after == "" {
		return p
	}
	// What the other page does not run is counted there.
	first := pageOf(t, filepath.Join(filepath.Dir(name), p.after))
	for i := range first.steps {
		if first.steps[i].page == "" {
			first.steps[i].page = p.after
		}
	}
	p.steps, p.ports = slices.Concat(first.steps, p.steps), slices.Concat(first.ports, p.ports)
	return p
}

// TestMain builds the programs, unless -bin has them: once, for linking them takes longer than
// most of the tests.
func TestMain(m *testing.M) {
	flag.Parse()
	code, err := withPrograms(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withPrograms builds the programs as users get them and finds Envoy.
func withPrograms(run func() int) (int, error) {
	if *built != "" {
		return run(), nil
	}
	bin, err := os.MkdirTemp("", "meshc-docs-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	*built = bin
	if err := programs.Into(context.Background(), bin); err != nil {
		return 0, err
	}
	envoy, err := envoybin.Find(context.Background(), envoybin.Options{Download: true})
	if err != nil {
		return 0, err
	}
	if err := os.Symlink(envoy.Path, filepath.Join(bin, "envoy")); err != nil {
		return 0, err
	}
	return run(), nil
}

// searched is a PATH in which the programs are found first.
func searched() string { return *built + string(filepath.ListSeparator) + os.Getenv("PATH") }

var (
	keep  = flag.Bool("keep", false, "leave the folders in which pages were run")
	built = flag.String("bin", "", "folder with meshc, meshc-agent and envoy, in place of building them")
)

// short makes a folder whose path leaves room for the sockets of agents, which systems
// limit to 103 bytes.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "docs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if *keep {
			t.Log("left", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// What is not true of a page is found.
func TestWrongPagesAreFound(t *testing.T) {
	const b = "```"
	wrong := map[string]struct{ page, want string }{
		"a command that fails":           {b + "sh\nfalse\n" + b, "line 1: this did not end well"},
		"one that fails in the middle":   {b + "sh\nfalse\ntrue\n" + b, "line 1: this did not end well"},
		"one that is not there":          {b + "sh\nmeshc-of-nobody\n" + b, "command not found"},
		"other words":                    {b + "console\n$ echo hello\nhallo\n" + b, "line 2: $ echo hello\nprints\nhello\nand the page shows\nhallo"},
		"a line too few":                 {b + "console\n$ printf 'a\\nb\\n'\na\n" + b, "line 2"},
		"a line too many":                {b + "console\n$ echo a\na\nb\n" + b, "line 2"},
		"a failure that is not shown":    {b + "console\n$ false\n" + b, "ends with 1, and the page does not show it"},
		"another exit code":              {b + "console\n$ (exit 3)\n$ echo $?\n4\n" + b, "line 3"},
		"a file that is another":         {b + "yaml\n# a.yaml\na: 1\n" + b + "\n" + b + "console\n$ tail -n 1 a.yaml\na: 2\n" + b, "line 6"},
		"a variable that nobody has set": {b + "sh\necho $NOWHERE\n" + b, "unbound variable"},
		"no shell":                       {b + "sh\nif\n" + b, "syntax error"},
	}
	for name, c := range wrong {
		t.Run(name, func(t *testing.T) {
			p, err := read(c.page)
			if err != nil {
				t.Fatal(err)
			}
			err = run(t.Context(), p, place{home: t.TempDir(), path: os.Getenv("PATH")})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, not %q", err, c.want)
			}
		})
	}
	for name, text := range map[string]string{
		"a block that nobody runs":        b + "\nmeshc vet\n" + b,
		"a file without a name":           b + "cue\nmesh: {}\n" + b,
		"a mark without a reason":         "<!-- not run: -->\n" + b + "sh\nfalse\n" + b,
		"a mark that stands alone":        "<!-- not run: because -->\nwords\n",
		"a block without an end":          b + "sh\ntrue\n",
		"output that no command printed":  b + "console\nhello\n" + b,
		"going on with another page late": b + "sh\ntrue\n" + b + "\n<!-- after: a.md -->\n",
		"going on with what is no page":   "<!-- after: nothing -->\n",
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := read(text); err == nil {
				t.Errorf("is read as %+v", p)
			}
		})
	}
}

// What is right passes, and means what doc.go says.
func TestRightPagesPass(t *testing.T) {
	const b = "```"
	p, err := read(strings.Join([]string{
		b + "yaml", "# dir/a.yaml", "a: 80", b,
		b + "sh", "cd dir", "x=1", "sleep 100 &", b,
		b + "console", "$ cat a.yaml", "# dir/a.yaml", "a: 80", "", `$ echo $x \`, "  two", "1 two",
		"$ printf 'one 2026 three\\nfour\\nfive\\nsix\\n'", "one … three", "…", "six", "$ (exit 3)", "$ echo $?", "3", b,
		"<!-- not run: nobody has it -->", b + "sh", "false", b,
		"<!-- ports: 80 -->",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.unrun, []string{"line 27: nobody has it"}) {
		t.Errorf("not run: %q", p.unrun)
	}
	at := place{home: t.TempDir(), path: os.Getenv("PATH")}
	if err := run(t.Context(), p, at); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(at.home, "work/dir/a.yaml")); err != nil || strings.Contains(string(b), "80\n") {
		t.Errorf("the port was not moved: %q, %v", b, err)
	}
}
