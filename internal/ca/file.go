package ca

import (
	"errors"
	"io/fs"
	"os"

	"meshc.dev/meshc/internal/diag"
)

// privateDir makes a folder that only its owner may enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "the state folder %q cannot be made: %v", dir, err).
			WithFix("name a folder that this user may write"))
	}
	return nil
}

// readPrivate reads a file with secrets and refuses one that others may read:
// a root key that leaked is worth a loud stop.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return nil, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%q holds private keys and has mode %04o", path, m).
			WithFix("find out who read it; then chmod 600, or remove it and let every agent join again"))
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%q is not readable: %v", path, err).
			WithFix("run as the user of `meshc serve`"))
	}
	return data, err
}
