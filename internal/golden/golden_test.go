package golden

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

func upper(_ *testing.T, c Case) map[string][]byte {
	out := map[string][]byte{"upper": []byte(strings.ToUpper(string(c.In["text"]))), "extra": []byte("x\n")}
	if strings.Contains(string(c.In["text"]), "bad") {
		out["diag"] = []byte("bad word")
	}
	return out
}

func TestRunComparesTheSectionsOfACase(t *testing.T) { Run(t, "testdata", upper) }

func TestWhatDiffersIsReported(t *testing.T) {
	for name, c := range map[string]struct{ archive, problem string }{
		"wrong section":         {"-- text --\na\n-- want/upper --\nB\n", "want/upper differs"},
		"section never made":    {"-- text --\na\n-- want/other --\n", "not produced (produced: extra, upper)"},
		"unexpected problems":   {"-- text --\nbad\n", "the case expects none"},
		"expected problem gone": {"-- text --\nfine\n-- want/diag --\nbad word\n", "want/diag differs"},
	} {
		a := txtar.Parse([]byte("# x\n" + c.archive))
		kase, err := parse(name, a)
		if err != nil {
			t.Fatal(err)
		}
		got := compare(a, upper(t, kase))
		if len(got) != 1 || !strings.Contains(got[0], c.problem) {
			t.Errorf("%s: problems %q, want one with %q", name, got, c.problem)
		}
	}
}

func TestAMalformedCaseIsAnError(t *testing.T) {
	for _, s := range []string{"-- a --\n", "# \n-- a --\n", "# x\n-- a --\n-- a --\n"} {
		if _, err := parse("x", txtar.Parse([]byte(s))); err == nil {
			t.Errorf("no error for %q", s)
		}
	}
}

func TestUpdateRewritesOnlyExpectations(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.txtar")
	a := txtar.Parse([]byte("# about\n# more\n-- text --\nbad\n-- want/upper --\nold\n"))
	c, err := parse("x", a)
	if err != nil {
		t.Fatal(err)
	}
	if err := rewrite(file, a, upper(t, c)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# about\n# more\n-- text --\nbad\n-- want/upper --\nBAD\n-- want/diag --\nbad word\n"
	if string(got) != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	b := txtar.Parse([]byte("# about\n-- text --\nfine\n-- want/diag --\nold problem\n"))
	if c, err = parse("x", b); err != nil {
		t.Fatal(err)
	}
	if err := rewrite(file, b, upper(t, c)); err != nil {
		t.Fatal(err)
	}
	if got, _ = os.ReadFile(file); strings.Contains(string(got), Diag) {
		t.Errorf("a problem that is gone stays expected: %q", got)
	}
}
