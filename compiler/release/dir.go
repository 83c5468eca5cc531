package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/durable"
)

const (
	manifestFile   = "manifest.json"
	provenanceFile = "provenance.json"
)

// ErrTampered says that bytes do not have the digest that the manifest names.
var ErrTampered = errors.New("release does not match its manifest")

// WriteDir writes the release into dir so that dir holds either the old content
// or the whole new one. An existing dir must be a release or empty; anything else
// is refused.
func WriteDir(r Release, dir string) error {
	if err := replaceable(dir); err != nil {
		return err
	}
	man, prov, err := r.Index()
	if err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	files := make(map[string][]byte, len(r.files)+2)
	for _, f := range r.files {
		files[f.Path] = f.Bytes
	}
	files[manifestFile], files[provenanceFile] = man, prov
	if err := durable.WriteDir(dir, files, 0o644); err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	return nil
}

func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, manifestFile)); err != nil {
		return fmt.Errorf("writing release: %q is not empty and holds no release; name another folder", dir)
	}
	return nil
}

// Index is what a release is beside its artifacts, as canonical JSON: manifest and
// provenance.
func (r Release) Index() (manifest, provenance []byte, err error) {
	if manifest, err = canon.JSON(r.Manifest()); err != nil {
		return nil, nil, err
	}
	provenance, err = canon.JSON(r.provenance)
	return manifest, provenance, err
}

// Assemble is the inverse of Index: bytesOf gives the artifact at a path that has
// that digest by the manifest. Every byte is checked against the manifest;
// provenance may be nil. A path whose bytes differ is ErrTampered with its name; a
// reference that leads to nothing is CodeInconsistent.
func Assemble(manifest, provenance []byte, bytesOf func(path, digest string) ([]byte, error)) (Release, error) {
	var man Manifest
	if err := json.Unmarshal(manifest, &man); err != nil {
		return Release{}, fmt.Errorf("reading release: %s: %w", manifestFile, err)
	}
	if man.Format != FormatVersion {
		return Release{}, fmt.Errorf("reading release: format %q, this meshc reads %q", man.Format, FormatVersion)
	}
	prov := Provenance{}
	if provenance != nil {
		if err := json.Unmarshal(provenance, &prov); err != nil {
			return Release{}, fmt.Errorf("reading release: %s: %w", provenanceFile, err)
		}
	}
	arts := make([]Artifact, 0, len(man.Artifacts))
	for _, p := range slices.Sorted(maps.Keys(man.Artifacts)) {
		if err := CheckPath(p); err != nil { // before anybody makes the name of a file of it
			return Release{}, fmt.Errorf("reading release: %w: %w", ErrTampered, err)
		}
		b, err := bytesOf(p, man.Artifacts[p])
		if err != nil {
			return Release{}, fmt.Errorf("reading release: %w", err)
		}
		arts = append(arts, Artifact{p, b})
	}
	r, err := Seal(arts, man.Inputs, prov)
	if err != nil {
		return Release{}, err
	}
	for _, f := range r.files {
		if f.digest != man.Artifacts[f.Path] {
			return Release{}, fmt.Errorf("reading release: %w: %q has other bytes than the manifest says", ErrTampered, f.Path)
		}
	}
	if r.Digest() != man.Digest {
		return Release{}, fmt.Errorf("reading release: %w: artifacts give %s, manifest says %s", ErrTampered, short(r.Digest()), short(man.Digest))
	}
	if err := r.closed(); err != nil {
		return Release{}, fmt.Errorf("reading release: %w", err)
	}
	return r, nil
}

// ReadDir reads a release and checks every byte against the manifest. A missing,
// extra or changed file is ErrTampered with the file's name.
func ReadDir(fsys fs.FS) (Release, error) {
	man, err := fs.ReadFile(fsys, manifestFile)
	if err != nil {
		return Release{}, fmt.Errorf("reading release: %w", err)
	}
	prov, err := fs.ReadFile(fsys, provenanceFile)
	if err != nil {
		prov = nil
	}
	there := map[string]bool{}
	r, err := Assemble(man, prov, func(p, _ string) ([]byte, error) {
		there[p] = true
		return readArtifact(fsys, p)
	})
	if err != nil {
		return Release{}, err
	}
	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || p == manifestFile || p == provenanceFile || there[p] {
			return err
		}
		return fmt.Errorf("%w: %q is not in the manifest", ErrTampered, p)
	})
	if err != nil {
		return Release{}, fmt.Errorf("reading release: %w", err)
	}
	return r, nil
}

func readArtifact(fsys fs.FS, p string) ([]byte, error) {
	info, err := fs.Lstat(fsys, p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q is missing", ErrTampered, p)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %q is not a regular file", ErrTampered, p)
	}
	return fs.ReadFile(fsys, p)
}
