// Package envoybin finds, fetches, checks and runs a real Envoy.
//
// In: options, bootstraps and resources as JSON. Out: the path of a supported
// Envoy, what it says of a configuration, or a running process. It knows no
// compiler: how resources become a bootstrap is passed in. A fetched Envoy is
// installed only if its bytes are the pinned ones, and then all at once, so that
// several processes may look for one at the same time. Whatever is started here
// ends with its Stop, or with the context of its call.
package envoybin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/diag"
)

// Version is the Envoy that is fetched. Supported is every patch of its minor
// version: extensions and defaults differ between minor versions.
const (
	Version   = "1.40.0"
	Supported = "1.40"
)

// Options says where an Envoy may come from. The zero value takes one from PATH
// or from the default cache and fetches nothing.
type Options struct {
	Path     string       // this one and no other; empty = look for one
	CacheDir string       // where fetched Envoys are kept; empty = meshc/envoy in the user's cache folder
	Download bool         // fetch one if there is none
	Log      *slog.Logger // nil = silent
}

// Binary is an Envoy that has been run once to ask for its version.
type Binary struct {
	Path    string // absolute
	Version string // "1.40.0"
	Build   string // the whole version line: commit/version/state/kind/TLS library
}

// Find returns the Envoy at o.Path; else one on PATH, if its version is
// supported; else a cached one; else it fetches the pinned one. What a user can
// mend is a *diag.ListError with MESH0320–0325.
func Find(ctx context.Context, o Options) (Binary, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Path != "" {
		return named(ctx, o.Path)
	}
	if b, ok := onPath(ctx, o.Log); ok {
		return b, nil
	}
	if err := ctx.Err(); err != nil {
		return Binary{}, err
	}
	dir, err := o.cache()
	if err != nil {
		return Binary{}, err
	}
	return cached(ctx, dir, o)
}

// cache is the folder where fetched Envoys are kept.
func (o Options) cache() (string, error) {
	if o.CacheDir != "" {
		return o.CacheDir, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w", err)
	}
	return filepath.Join(base, "meshc", "envoy"), nil
}

func named(ctx context.Context, path string) (Binary, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Binary{}, fmt.Errorf("finding Envoy %q: %w", path, err)
	}
	b, err := inspect(ctx, abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Binary{}, problem(diag.New(diag.CodeEnvoyMissing, diag.Pos{}, "there is no Envoy at %q", path).
			WithFix("name an Envoy %s, or leave the flag out and one is found or fetched", Supported))
	case err != nil && ctx.Err() != nil:
		return Binary{}, err
	case err != nil:
		return Binary{}, problem(diag.New(diag.CodeEnvoyBroken, diag.Pos{}, "the Envoy at %q does not run: %v", path, err).
			WithFix("try `%s --version`", path))
	case !supported(b.Version):
		return Binary{}, problem(diag.New(diag.CodeEnvoyVersion, diag.Pos{}, "the Envoy at %q is version %s; supported is %s", path, b.Version, Supported).
			WithFix("name an Envoy %s, or leave the flag out and one is found or fetched", Supported))
	}
	return b, nil
}

func onPath(ctx context.Context, log *slog.Logger) (Binary, bool) {
	path, err := exec.LookPath("envoy")
	if err != nil {
		return Binary{}, false
	}
	if path, err = filepath.Abs(path); err != nil {
		return Binary{}, false
	}
	b, err := inspect(ctx, path)
	if err != nil {
		log.Warn("envoy on PATH does not run", "path", path, "error", err)
		return Binary{}, false
	}
	if !supported(b.Version) {
		log.Warn("envoy on PATH is not supported", "path", path, "version", b.Version, "supported", Supported)
		return Binary{}, false
	}
	return b, true
}

func supported(version string) bool { return strings.HasPrefix(version, Supported+".") }

var versionLine = regexp.MustCompile(`version:\s*(\S*/(\d+\.\d+\.\d+)\S*)`)

// inspect runs `envoy --version`.
func inspect(ctx context.Context, path string) (Binary, error) {
	if _, err := os.Stat(path); err != nil {
		return Binary{}, err
	}
	out, err := child.Run(ctx, child.Spec{Path: path, Args: []string{"--version"}}, 30*time.Second)
	if err != nil {
		return Binary{}, err
	}
	m := versionLine.FindSubmatch(out.Stdout)
	if !out.OK() || m == nil {
		said := strings.TrimSpace(string(out.Stderr) + string(out.Stdout))
		return Binary{}, fmt.Errorf("%q --version ended with %s: %s", path, ending(out), lastLines(said, 2))
	}
	return Binary{Path: path, Version: string(m[2]), Build: string(m[1])}, nil
}

func ending(o child.Output) string {
	switch {
	case o.TimedOut:
		return "a timeout"
	case o.Signal != 0:
		return "signal " + o.Signal.String()
	}
	return fmt.Sprintf("exit code %d", o.Code)
}

// lastLines returns the last n lines of s, on one line.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, " | ")
}

func problem(d diag.Diagnostic) error { return diag.List{d}.Err() }
