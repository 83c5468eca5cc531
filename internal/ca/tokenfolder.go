package ca

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
)

const (
	// podCredential stands before names of pods' tokens, which no join token begins with.
	podCredential = "pod:"
	// sweepEvery is after how many pods' tokens old ones are removed.
	sweepEvery = 256
)

// folder keeps tokens in a state folder: one file per token. Using one is renaming its
// file, which the file system grants to exactly one caller, in this process or another.
type folder struct {
	dir   string
	clock func() time.Time
	spent atomic.Int64 // tokens of pods
}

func (t *folder) file(name string) string { return filepath.Join(t.dir, name+".json") }
func (t *folder) used(name string) string { return filepath.Join(t.dir, "used", name+".json") }

func (t *folder) add(_ context.Context, name string, f tokenFile) error {
	data, err := canon.JSON(f)
	if err != nil {
		return err
	}
	return durable.CreateFile(t.file(name), data, 0o600)
}

func (t *folder) find(_ context.Context, name string) (tokenFile, error) {
	f, err := t.read(t.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return f, t.whyMissing(name)
	}
	return f, err
}

func (t *folder) use(_ context.Context, name string) error {
	err := durable.Rename(t.file(name), t.used(name))
	if errors.Is(err, fs.ErrNotExist) {
		return t.whyMissing(name)
	}
	if err != nil {
		return fmt.Errorf("spending a join token: %w", err)
	}
	return nil
}

func (t *folder) whyMissing(name string) error {
	if _, err := os.Stat(t.used(name)); err == nil {
		return ErrSpent
	}
	return fs.ErrNotExist
}

// Check looks for a pod's token among the used.
func (t *folder) Check(_ context.Context, credential string) error {
	switch _, err := os.Stat(t.used(nameOf(podCredential + credential))); {
	case err == nil:
		return ErrSpent
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return fmt.Errorf("looking for a pod's token among the used: %w", err)
	}
}

// Use puts a pod's token among the used.
func (t *folder) Use(ctx context.Context, credential string, id spiffeid.ID, ends time.Time) error {
	data, err := canon.JSON(tokenFile{Format: tokenFormat, ID: id.String(), Created: t.clock().UTC(), NotAfter: ends.UTC()})
	if err != nil {
		return err
	}
	err = durable.CreateFile(t.used(nameOf(podCredential+credential)), data, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return ErrSpent
	}
	if err != nil {
		return fmt.Errorf("spending a pod's token: %w", err)
	}
	if t.spent.Add(1)%sweepEvery == 0 {
		return t.sweep(ctx)
	}
	return nil
}

func (t *folder) read(path string) (tokenFile, error) {
	var f tokenFile
	data, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("reading a join token: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil || f.Format != tokenFormat {
		return f, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%q is damaged", path).
			WithFix("remove the file and make a new token"))
	}
	return f, nil
}

// sweep removes tokens, used or not, that are over.
func (t *folder) sweep(context.Context) error {
	for _, dir := range []string{t.dir, filepath.Join(t.dir, "used")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("sweeping join tokens: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if !strings.HasSuffix(path, ".json") {
				continue
			}
			if f, err := t.read(path); err == nil && f.over(t.clock()) {
				_ = os.Remove(path) // the next sweep tries again
			}
		}
	}
	return nil
}
