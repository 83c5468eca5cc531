package gitrepo

import (
	"os/exec"
	"testing"
)

// What a problem says to paste names the file, whoever named that, and runs nothing.
func TestShellWord(t *testing.T) {
	for path, want := range map[string]string{
		"docs/aux.md": "docs/aux.md", "a b.md": "-- $'a b.md'", "it's": `-- $'it\'s'`, "-rf": "-- $'-rf'",
		"docs/e\u0301.md": `-- $'docs/e\u0301.md'`, "a\u200bb": `-- $'a\u200bb'`, "$(echo no)`echo no`": "-- $'$(echo no)`echo no`'",
		"tab\there \\ \"q\" !x": `-- $'tab\there \\ \"q\" !x'`, "\xff": `-- $'\xff'`, "emoji \U0001f600": `-- $'emoji \U0001f600'`,
	} {
		got := shellWord(path)
		if got != want {
			t.Errorf("%q is %s, want %s", path, got, want)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", `said() { [ "$1" != -- ] || shift; printf %s "$#:$1"; }; said `+got)
		cmd.Env = []string{"LC_ALL=C.UTF-8"}
		if out, err := cmd.Output(); err != nil || string(out) != "1:"+path {
			t.Errorf("bash reads %s as %q (%v)", got, out, err)
		}
	}
}
