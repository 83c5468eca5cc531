package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/diag"
)

// The names of the state folders: each kind of server has one of its own.
const (
	serverState  = "meshc"
	webhookState = "meshc-webhook"
)

// addState adds --state with the system's place for state of that name as its default.
// Help and completion do not show this machine's.
func addState(cmd *cobra.Command, dir *string, name, usage string) {
	fl := cmd.Flags()
	fl.StringVar(dir, "state", defaultState(name), usage+
		"; default: $STATE_DIRECTORY, as systemd sets it, else "+name+" in $XDG_STATE_HOME, /var/lib (root) or ~/.local/state (macOS: ~/Library/Application Support)")
	fl.Lookup("state").DefValue = ""
}

// defaultState is the folder in which this system's services keep state of that name, ""
// where the environment does not say.
func defaultState(name string) string {
	if dirs := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(dirs) > 0 {
		return dirs[0] // systemd.exec(5): the service's own, several with colons between them
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) { // others are to be ignored, says the XDG Base Directory Specification
		return filepath.Join(dir, name)
	}
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib", name)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", name)
	}
	return filepath.Join(home, ".local", "state", name)
}

// makeState makes the folder of a server that starts. Nothing in a Git work tree will do:
// there a compilation would read it, and `git add` would take up the keys in it.
func makeState(dir string) error {
	if dir == "" {
		return fail(diag.ExitFailure, "no folder for state: neither $STATE_DIRECTORY nor $XDG_STATE_HOME nor $HOME is set; name one with --state")
	}
	tree, err := workTree(dir)
	if err != nil {
		return fmt.Errorf("finding the state folder: %w; name another one with --state", err)
	}
	if tree != "" {
		return diag.List{diag.New(diag.CodeStateInTree, diag.Pos{}, "the state folder %q is in the Git work tree %q: keys would be committed, and the intent there would not compile with it", dir, tree).
			WithFix("name a folder outside with --state, or leave it out for the system's place")}.Err()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the state folder: %w; name another one with --state", err)
	}
	return nil
}

// workTree is the top of the Git work tree in which dir lies or would be made, "" for none.
func workTree(dir string) (string, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	there, err := filepath.EvalSymlinks(at)
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) { // what is to be made yet
		at = filepath.Dir(at)
		there, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return "", err
	}
	for at = there; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", nil
		}
	}
}
