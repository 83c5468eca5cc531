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
)

const (
	manifestFile   = "manifest.json"
	provenanceFile = "provenance.json"
)

// ErrTampered says that bytes do not have the digest that the manifest names.
var ErrTampered = errors.New("release does not match its manifest")

// WriteDir writes the release into dir so that dir holds either the old content
// or the whole new one: it writes a sibling folder, syncs it, and exchanges the two.
// An existing dir must be a release or empty; anything else is refused.
func WriteDir(r Release, dir string) error {
	if err := replaceable(dir); err != nil {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".meshc-release-")
	if err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	defer os.RemoveAll(tmp) // a no-op after the rename
	if err := writeFiles(r, tmp); err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	return swap(tmp, dir, parent)
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

func writeFiles(r Release, dir string) error {
	man, err := canon.JSON(r.manifest)
	if err != nil {
		return err
	}
	prov, err := canon.JSON(r.provenance)
	if err != nil {
		return err
	}
	files := maps.Clone(r.artifacts)
	if files == nil {
		files = map[string][]byte{}
	}
	files[manifestFile], files[provenanceFile] = man, prov
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if err := writeSynced(filepath.Join(dir, filepath.FromSlash(p)), files[p]); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}

func writeSynced(name string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, werr := f.Write(b)
	serr := f.Sync()
	return errors.Join(werr, serr, f.Close())
}

// swap puts tmp in the place of dir: at once where the system can exchange two
// names, else with a moment between two renames in which dir does not exist.
func swap(tmp, dir, parent string) error {
	if _, err := os.Lstat(dir); err == nil && exchange(tmp, dir) == nil {
		if err := os.RemoveAll(tmp); err != nil {
			return fmt.Errorf("writing release: removing the old one: %w", err)
		}
		return syncDir(parent)
	}
	old := tmp + ".old"
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing release: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		_ = os.Rename(old, dir) // put the old content back; the first error is the one to tell
		return fmt.Errorf("writing release: %w", err)
	}
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("writing release: %w", err)
	}
	return nil
}

// ReadDir reads a release and checks every byte against the manifest. A missing,
// extra or changed file is ErrTampered with the file's name.
func ReadDir(fsys fs.FS) (Release, error) {
	raw, err := fs.ReadFile(fsys, manifestFile)
	if err != nil {
		return Release{}, fmt.Errorf("reading release: %w", err)
	}
	var man Manifest
	if err := json.Unmarshal(raw, &man); err != nil {
		return Release{}, fmt.Errorf("reading release: %s: %w", manifestFile, err)
	}
	if man.Format != FormatVersion {
		return Release{}, fmt.Errorf("reading release: format %q, this meshc reads %q", man.Format, FormatVersion)
	}
	prov := Provenance{}
	if raw, err := fs.ReadFile(fsys, provenanceFile); err == nil {
		if err := json.Unmarshal(raw, &prov); err != nil {
			return Release{}, fmt.Errorf("reading release: %s: %w", provenanceFile, err)
		}
	}
	arts, err := readArtifacts(fsys, man)
	if err != nil {
		return Release{}, err
	}
	r, err := Seal(arts, man.Inputs, prov)
	if err != nil {
		return Release{}, err
	}
	if r.Digest() != man.Digest {
		return Release{}, fmt.Errorf("reading release: %w: artifacts give %s, manifest says %s", ErrTampered, short(r.Digest()), short(man.Digest))
	}
	return r, nil
}

func readArtifacts(fsys fs.FS, man Manifest) ([]Artifact, error) {
	var arts []Artifact
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || p == manifestFile || p == provenanceFile {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%w: %q is not a regular file", ErrTampered, p)
		}
		want, ok := man.Artifacts[p]
		if !ok {
			return fmt.Errorf("%w: %q is not in the manifest", ErrTampered, p)
		}
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		if canon.Digest(b) != want {
			return fmt.Errorf("%w: %q has other bytes than the manifest says", ErrTampered, p)
		}
		arts = append(arts, Artifact{p, b})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading release: %w", err)
	}
	if len(arts) != len(man.Artifacts) {
		return nil, fmt.Errorf("reading release: %w: %d files, manifest names %d", ErrTampered, len(arts), len(man.Artifacts))
	}
	return arts, nil
}
