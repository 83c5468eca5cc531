package ca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"meshc.dev/meshc/internal/diag"
)

// writeAtomic puts data at path so that a reader sees the old or the new file,
// never a part, also after a crash. commit is os.Rename (replace) or os.Link (fail
// if path exists).
func writeAtomic(path string, data []byte, commit func(tmp, path string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	defer os.Remove(f.Name()) // after a rename there is nothing left to remove
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	if err := commit(f.Name(), path); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %q: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %q: %w", dir, err)
	}
	return nil
}

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
