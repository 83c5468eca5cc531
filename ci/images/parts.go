package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/envoybin"
)

// How long a program of others may take.
const (
	buildLimit = 20 * time.Minute
	fetchLimit = 5 * time.Minute
)

// part is something in an image that others made.
type part struct{ purl, name, version, sha256 string }

// compile builds one of our programs, without anything that depends on where or when.
func (s Source) compile(ctx context.Context, program, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "meshc-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, program)
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, "./cmd/"+program)
	cmd.Dir, cmd.Env = s.Root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS="+os.Getenv("GOFLAGS"))
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w\n%s", program, err, text)
	}
	return os.ReadFile(out)
}

// modules are the Go modules that a program was linked from.
func modules(binary []byte) ([]part, error) {
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return nil, fmt.Errorf("reading what a program was built from: %w", err)
	}
	out := []part{{purl: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), name: "std", version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, m := range info.Deps {
		out = append(out, part{purl: "pkg:golang/" + m.Path + "@" + m.Version, name: m.Path, version: m.Version})
	}
	return out, nil
}

// bundle is where a program finds whom to trust on the network.
const bundle = "/etc/ssl/certs/ca-certificates.crt"

// certificates is what a program needs besides itself that reaches servers of the world.
func certificates(ctx context.Context, s Source, arch string) ([]files, []part, error) {
	all, p, err := s.debian(ctx, "ca-certificates", arch)
	if err != nil {
		return nil, nil, err
	}
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, "usr/share/ca-certificates/") && strings.HasSuffix(name, ".crt") {
			text = append(append(text, bytes.TrimSpace(all[name].content)...), '\n')
		}
	}
	if len(text) == 0 {
		return nil, nil, errors.New("the package ca-certificates has none")
	}
	return []files{{strings.TrimPrefix(bundle, "/"): {mode: 0o644, content: text}}}, []part{p}, nil
}

// libraries are those of glibc that Envoy is linked to, and its loader.
func libraries() []string {
	return []string{"libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0"}
}

// loader is where an Envoy says that its loader is, and the folder of libraries.
func loader(arch string) (link, dir string) {
	if arch == "arm64" {
		return "lib/ld-linux-aarch64.so.1", "lib/aarch64-linux-gnu/"
	}
	return "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/"
}

// proxy is Envoy, and whom externals of the mesh are verified by.
func proxy(ctx context.Context, s Source, arch string) ([]files, []part, error) {
	below, parts, err := envoy(ctx, s, arch)
	if err != nil {
		return nil, nil, err
	}
	trusted, more, err := certificates(ctx, s, arch)
	if err != nil {
		return nil, nil, err
	}
	return append(below, trusted...), append(parts, more...), nil
}

// envoy is the pinned Envoy with the glibc that it needs.
func envoy(ctx context.Context, s Source, arch string) ([]files, []part, error) {
	all, p, err := s.debian(ctx, "libc6", arch)
	if err != nil {
		return nil, nil, err
	}
	link, dir := loader(arch)
	libc := files{}
	for _, name := range append([]string{path.Base(link)}, libraries()...) {
		e, ok := all[dir+name]
		if !ok || e.link != "" {
			return nil, nil, fmt.Errorf("the package libc6 has no file %s%s", dir, name)
		}
		libc[dir+name] = entry{mode: 0o755, content: e.content}
	}
	libc[link] = entry{link: "/" + dir + path.Base(link)}
	if path.Dir(link) == "lib" {
		libc[link] = entry{link: path.Base(dir) + "/" + path.Base(link)}
	}
	binary, err := envoybin.Pinned(ctx, envoybin.Options{Download: true}, "linux", arch)
	if err != nil {
		return nil, nil, err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, nil, err
	}
	proxy := files{"usr/local/bin/envoy": {mode: 0o755, content: content}}
	return []files{libc, proxy}, []part{p, {purl: "pkg:generic/envoy@" + envoybin.Version, name: "envoy", version: envoybin.Version, sha256: sum(content)}}, nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// debian fetches a package for an architecture with the machine's own apt, which checks
// it, and gives its files. Nothing of the machine's is changed.
func (s Source) debian(ctx context.Context, name, arch string) (files, part, error) {
	home := filepath.Join(s.Cache, "debian-"+arch)
	file, err := one(home, name)
	if err != nil {
		return nil, part{}, err
	}
	if file == "" {
		if err := apt(ctx, home, arch, name); err != nil {
			return nil, part{}, err
		}
		if file, err = one(home, name); err != nil || file == "" {
			return nil, part{}, errors.Join(err, fmt.Errorf("apt-get left no package %s", name))
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, part{}, err
	}
	all, err := unpack(ctx, file)
	version := strings.Split(strings.TrimSuffix(filepath.Base(file), ".deb"), "_")[1]
	return all, part{purl: fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", name, strings.ReplaceAll(version, "%3a", ":"), arch), name: name, version: version, sha256: sum(raw)}, err
}

// one is the package's file in a folder, "" for none.
func one(home, name string) (string, error) {
	found, err := filepath.Glob(filepath.Join(home, name+"_*.deb"))
	switch {
	case err != nil || len(found) == 0:
		return "", err
	case len(found) > 1:
		return "", fmt.Errorf("%d packages %s lie in %q: remove the folder", len(found), name, home)
	}
	return found[0], nil
}

func apt(ctx context.Context, home, arch, name string) error {
	program, err := exec.LookPath("apt-get")
	if err != nil {
		return fmt.Errorf("the images take %s from Debian's packages, and there is no apt-get: build them on Debian", name)
	}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(home, d), 0o755); err != nil {
			return err
		}
	}
	own := []string{"-qq", "-o", "Dir::State=" + filepath.Join(home, "state"), "-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache=" + filepath.Join(home, "cache"),
		"-o", "APT::Architecture=" + arch, "-o", "APT::Architectures=" + arch, "-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User="}
	for _, args := range [][]string{{"update"}, {"download", name}} {
		out, err := child.Run(ctx, child.Spec{Path: program, Args: append(slices.Clone(own), args...), Dir: home, Env: os.Environ()}, fetchLimit)
		if err != nil {
			return err
		}
		if !out.OK() {
			return fmt.Errorf("apt-get %s: exit code %d: %s", strings.Join(args, " "), out.Code, strings.TrimSpace(string(out.Stderr)))
		}
	}
	return nil
}

// unpack gives a package's files.
func unpack(ctx context.Context, file string) (files, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	raw, err := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file).Output()
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", filepath.Base(file), err)
	}
	out := files{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", filepath.Base(file), err)
		}
		e := entry{mode: h.Mode, link: h.Linkname}
		if h.Typeflag == tar.TypeReg {
			if e.content, err = io.ReadAll(r); err != nil {
				return nil, err
			}
		}
		out[strings.TrimPrefix(path.Clean(h.Name), "./")] = e
	}
}

// bill lists all parts of an image (CycloneDX 1.6).
func (s Source) bill(name string, parts []part) ([]byte, error) {
	type hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	type component struct {
		Type    string `json:"type"`
		Name    string `json:"name"`
		Version string `json:"version"`
		PURL    string `json:"purl,omitempty"`
		Hashes  []hash `json:"hashes,omitempty"`
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.purl, b.purl) })
	components := []component{}
	for _, p := range slices.Compact(parts) {
		c := component{Type: "library", Name: p.name, Version: p.version, PURL: p.purl}
		if p.sha256 != "" {
			c.Hashes = []hash{{"SHA-256", p.sha256}}
		}
		components = append(components, c)
	}
	return json.MarshalIndent(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
		"metadata":   map[string]any{"timestamp": s.Date.UTC().Format(time.RFC3339), "component": component{Type: "container", Name: name, Version: s.Version}},
		"components": components,
	}, "", "  ")
}
