package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// compile is compiler.Load for intent that nobody vouches for: what is not in the
// cache yet is evaluated by a child with limits first, so that a computation
// without end, or without bound, is told as a problem of its package.
func (a *app) compile(ctx context.Context, fsys fs.FS, o compiler.Options) (*compiler.Program, diag.List, error) {
	dir, done, err := cacheFolder()
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if err := evaluateApart(ctx, fsys, o.Environment, dir); err != nil {
		if ds := findings(err); len(ds) > 0 {
			return nil, ds, nil
		}
		return nil, nil, err
	}
	o.Cache = compiler.DirCache(dir)
	p, ds := compiler.Load(fsys, o)
	return p, ds, nil
}

// cacheFolder is where evaluated packages are kept: in the user's cache, or, if
// there is none, in a folder that done removes.
func cacheFolder() (dir string, done func(), err error) {
	if dir := userFolder("cue"); dir != "" && os.MkdirAll(dir, 0o700) == nil {
		return dir, func() {}, nil
	}
	dir, err = os.MkdirTemp("", "meshc-cue-")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder for evaluated packages: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// evaluateApart fills the cache. Problems of the intent are not its business.
func evaluateApart(ctx context.Context, fsys fs.FS, env, cache string) error {
	if raceDetector {
		return nil
	}
	argv0, err := self()
	if err != nil {
		return err
	}
	in, err := json.Marshal(workRequest{Files: intentText(fsys), Environment: env, Cache: cache})
	if err != nil {
		return fmt.Errorf("writing the request for the child: %w", err)
	}
	if _, err = sandbox.Run(ctx, limits(len(in)), argv0, bytes.NewReader(in)); err != nil {
		return fmt.Errorf("evaluating apart: %w", err)
	}
	return nil
}

// tellLimits says what this system does not limit in a child, if anything.
func (a *app) tellLimits() error {
	d, lacks := sandbox.Warning()
	if !lacks {
		return nil
	}
	return diag.Render(a.err, diag.Text, diag.List{d}, diag.Options{Color: a.color})
}

// enough is a request up to which a child has the usual limits; each further one
// of this size adds as much time again. It is about 300 services.
const enough = 256 << 10

// limits are those of a child that gets so many bytes. A small repository ends
// within ten seconds and 512 MiB, whatever it holds.
func limits(request int) sandbox.Limits {
	l := sandbox.Default()
	n := request / enough
	l.Wall += time.Duration(n) * l.Wall
	l.CPU += time.Duration(n) * l.CPU
	l.Output += int64(n) * l.Output
	l.Data, l.Heap = l.Data+int64(n)*128<<20, l.Heap+int64(n)*96<<20
	return l
}

// maxText bounds what is read for a child. Whatever is larger is told by the
// compiler, which has limits for each file.
const maxText = 256 << 20

// intentText reads what a child can evaluate, and leaves out what it cannot: the
// compiler tells of that.
func intentText(fsys fs.FS) map[string][]byte {
	files, total := map[string][]byte{}, int64(0)
	_ = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if d.IsDir() {
			if p != "." && strings.HasPrefix(path.Base(p), ".") {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if path.Ext(p) != ".cue" || err != nil || !info.Mode().IsRegular() {
			return nil
		}
		if total += info.Size(); total > maxText {
			return fs.SkipAll
		}
		if b, err := fs.ReadFile(fsys, p); err == nil {
			files[p] = b
		}
		return nil
	})
	return files
}

// fillCache is the child of evaluateApart.
func fillCache(fsys fs.FS, q workRequest, progress func(string, bool)) ([]byte, error) {
	if q.Cache == "" {
		return nil, errors.New("the request names no cache")
	}
	compiler.Load(fsys, compiler.Options{Environment: q.Environment, At: q.At, Cache: compiler.DirCache(q.Cache), Progress: progress})
	return []byte("{}"), nil
}
