// Package kept holds one text of secrets where several processes share it.
//
// In: a place and the text that belongs there. Out: the text that is there. Who replaces
// a text says which one he read; of any number of processes that replace the same text,
// one does, and the others learn of it (ErrConflict) instead of writing over it. What
// stands in the text's place without being one is never written over. No error has
// anything of the text in it.
package kept

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
)

// ErrConflict is that somebody else was faster: the text is no longer the one that was
// read.
var ErrConflict = errors.New("it was replaced meanwhile")

// Store is a place for one text.
type Store interface {
	// Read returns what is there now.
	Read(ctx context.Context) (Text, error)
	// Replace puts data in the place of old, as Read or Replace returned it.
	Replace(ctx context.Context, old Text, data []byte) (Text, error)
	// String names the place for people, without an article: `file "…"`.
	String() string
	// Restore says how a text that was lost is got back, Clear how a broken one is taken
	// away: each an order in half a sentence.
	Restore() string
	Clear() string
}

// Text is a text at a moment.
type Text struct {
	// Data is nil if there is none yet.
	Data []byte
	// Version is another one whenever the text is. What it looks like is the store's.
	Version string
	// Now is the time by the store's own clock when it was read; zero if it has none.
	Now time.Time
}

// File is a Store in a file that only its owner may read. The process that replaces is
// one at a time; who makes the text for the first time may be several.
type File string

// String names the file.
func (f File) String() string { return fmt.Sprintf("%q", string(f)) }

// Restore names a backup.
func (f File) Restore() string { return "put the file back from a backup" }

// Clear names the file.
func (f File) Clear() string { return "remove it" }

// Read refuses a file that others may read: a key that leaked is worth a loud stop.
func (f File) Read(context.Context) (Text, error) {
	info, err := os.Stat(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return Text{}, nil
	}
	if err != nil {
		return Text{}, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s: %v", f, err).WithFix("run as the user of the server"))
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return Text{}, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s holds private keys and has mode %04o", f, m).
			WithFix("find out who read it; then chmod 600, or remove it and let every agent join again"))
	}
	data, err := os.ReadFile(string(f))
	if err != nil {
		return Text{}, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s is not readable: %v", f, err).WithFix("run as the user of the server"))
	}
	return Text{Data: append([]byte{}, data...), Version: canon.Digest(data)}, nil
}

// Replace writes the file as a whole, in a folder that only its owner may enter.
func (f File) Replace(ctx context.Context, old Text, data []byte) (Text, error) {
	if err := PrivateFolder(filepath.Dir(string(f))); err != nil {
		return Text{}, err
	}
	out := Text{Data: data, Version: canon.Digest(data)}
	if old.Version == "" {
		err := durable.CreateFile(string(f), data, 0o600)
		if errors.Is(err, fs.ErrExist) {
			err = ErrConflict
		}
		return out, err
	}
	switch now, err := f.Read(ctx); {
	case err != nil:
		return Text{}, err
	case now.Version != old.Version:
		return Text{}, ErrConflict
	}
	return out, durable.WriteFile(string(f), data, 0o600)
}

// PrivateFolder makes a folder that only its owner may enter.
func PrivateFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "the state folder %q cannot be made: %v", dir, err).
			WithFix("name a folder that this user may write"))
	}
	return nil
}

func problem(d diag.Diagnostic) error { return diag.List{d}.Err() }
