package approval

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
)

// On disk, an environment's folder holds the current approval and some before it, to
// which a server can hold proxies that fail with it:
//
//	blobs/<digest>                                 the bytes of artifacts, each once
//	<number>-<digest of record.json>/record.json   the verification record
//	<number>-<digest of record.json>/steps/000/…   the releases: manifest and provenance
//
// A folder gets its name by one rename after everything in it, and every blob that
// it needs, is on the disk, and its name holds its digest. So there is no pointer
// that could be damaged or disagree: the whole folder with the highest number is
// the current one. A blob is written once, however many approvals have it.

// ErrNothingStored says that a folder holds no approval yet.
var ErrNothingStored = errors.New("no approval is stored")

const (
	recordFile     = "record.json"
	blobsDir       = "blobs"
	stepsDir       = "steps"
	manifestFile   = "manifest.json"
	provenanceFile = "provenance.json"
	kept           = 8
)

var (
	storedName = regexp.MustCompile(`^([0-9]{8})-([0-9a-f]{64})$`)
	blobName   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Store keeps the approvals of one environment in a folder. Use it from one
// goroutine; two processes must not save to one folder.
type Store struct {
	dir string
	// good are the blobs that this process has written, or read and found whole: what
	// it can leave as it is when it saves.
	good map[string]bool
	// reached lets tests stop at each step, as a full disk or a crash does.
	reached func(step string) error
}

// NewStore names the folder, which Save makes.
func NewStore(dir string) *Store {
	return &Store{dir: dir, good: map[string]bool{}, reached: func(string) error { return nil }}
}

// Save stores an approval beside the previous one. Whatever happens, the folder
// then holds the old or the new state, whole. It writes what has changed.
func (s *Store) Save(a Approved) error {
	if a.Commit() == "" {
		return errors.New("saving approval: nothing is approved")
	}
	if err := s.write(a); err != nil {
		return fmt.Errorf("saving approval of %s: %w", short(a.Commit()), err)
	}
	return nil
}

func (s *Store) write(a Approved) error {
	if err := os.MkdirAll(filepath.Join(s.dir, blobsDir), 0o750); err != nil {
		return err
	}
	older, err := stored(s.dir)
	if err != nil {
		return err
	}
	next := 1
	if len(older) > 0 {
		n, _ := strconv.Atoi(older[0][:8]) // eight digits, by storedName
		next = n + 1
	}
	if err := s.reached("start"); err != nil {
		return err
	}
	if err := s.writeBlobs(a); err != nil {
		return err
	}
	files, err := index(a)
	if err != nil {
		return err
	}
	if err := s.reached("record"); err != nil {
		return err
	}
	name := fmt.Sprintf("%08d-%s", next, canon.Digest(files[recordFile]))
	if err := durable.WriteDir(filepath.Join(s.dir, name), files, 0o640); err != nil {
		return err
	}
	if err := s.reached("stored"); err != nil {
		return err
	}
	return s.prune(older)
}

// writeBlobs writes the artifacts that are not known to be there.
func (s *Store) writeBlobs(a Approved) error {
	missing := map[string][]byte{}
	for _, st := range a.steps {
		for p, d := range st.Release.Manifest().Artifacts {
			if !s.good[d] {
				missing[d], _ = st.Release.Artifact(p)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := s.reached("blobs"); err != nil {
		return err
	}
	if err := durable.WriteFiles(filepath.Join(s.dir, blobsDir), missing, 0o640); err != nil {
		return err
	}
	for d := range missing {
		s.good[d] = true
	}
	return nil
}

// index is the folder of an approval.
func index(a Approved) (map[string][]byte, error) {
	files := map[string][]byte{}
	for i, st := range a.steps {
		man, prov, err := st.Release.Index()
		if err != nil {
			return nil, err
		}
		files[stepFile(i, manifestFile)], files[stepFile(i, provenanceFile)] = man, prov
	}
	raw, err := canon.JSON(a.record)
	files[recordFile] = raw
	return files, err
}

func stepFile(i int, name string) string { return fmt.Sprintf("%s/%03d/%s", stepsDir, i, name) }

// prune removes approvals that are too old to be kept, the blobs that only they had,
// and what a crash left behind.
func (s *Store) prune(older []string) error {
	if err := s.reached("prune"); err != nil {
		return err
	}
	for _, name := range older[min(len(older), kept-1):] {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	needed, err := s.needed()
	if err != nil {
		return err
	}
	for _, dir := range []string{s.dir, filepath.Join(s.dir, blobsDir)} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			blob := blobName.MatchString(e.Name()) && dir != s.dir
			if !durable.IsTemp(e.Name()) && (!blob || needed[e.Name()]) {
				continue
			}
			delete(s.good, e.Name())
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// needed are the blobs of the approvals that are there. One that cannot be read
// needs none: it is of no use any more.
func (s *Store) needed() (map[string]bool, error) {
	manifests, err := filepath.Glob(filepath.Join(s.dir, "*", stepsDir, "*", manifestFile))
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for _, file := range manifests {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var man release.Manifest
		if json.Unmarshal(raw, &man) != nil {
			continue
		}
		for _, d := range man.Artifacts {
			needed[d] = true
		}
	}
	return needed, nil
}

// stored lists the approvals in a folder, newest first.
func stored(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && storedName.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

// Damaged says which stored approvals could not be used, newest first.
type Damaged struct {
	Dir  string
	Errs []error
}

// Error names the folder and every reason.
func (d *Damaged) Error() string {
	var texts []string
	for _, e := range d.Errs {
		texts = append(texts, e.Error())
	}
	return fmt.Sprintf("stored approval in %q is damaged: %s", d.Dir, strings.Join(texts, "; "))
}

// Unwrap gives the reasons.
func (d *Damaged) Unwrap() []error { return d.Errs }

// Diagnostic is the same as a problem with a code.
func (d *Damaged) Diagnostic() diag.Diagnostic {
	return diag.New(diag.CodeStoredApproval, diag.Pos{}, "%s", d.Error()).
		WithFix("check the disk; the folder may be deleted, then the server verifies again from Git")
}

// Restore returns the newest approval in the folder whose bytes are all as they
// were saved. Nothing is verified again: that a key expired since does not matter.
// If a newer one is damaged, it returns the one before *and* a *Damaged error; with
// nothing usable the Approved is zero. ErrNothingStored: nothing was ever saved.
func (s *Store) Restore() (Approved, error) {
	names, err := stored(s.dir)
	if err != nil {
		return Approved{}, fmt.Errorf("restoring approval: %w", err)
	}
	if len(names) == 0 {
		return Approved{}, fmt.Errorf("restoring approval from %q: %w", s.dir, ErrNothingStored)
	}
	bad := &Damaged{Dir: s.dir}
	for _, name := range names {
		a, err := s.restoreOne(filepath.Join(s.dir, name), name[9:])
		if err == nil && len(bad.Errs) == 0 {
			return a, nil
		}
		if err == nil {
			return a, bad
		}
		bad.Errs = append(bad.Errs, fmt.Errorf("%s: %w", name[:8], err))
	}
	return Approved{}, bad
}

// Earlier returns the usable approvals that were saved before the last one, oldest
// first. Nothing is verified again.
func (s *Store) Earlier() []Approved {
	names, err := stored(s.dir)
	if err != nil || len(names) == 0 {
		return nil
	}
	var out []Approved
	read := map[string][]byte{}
	for _, name := range slices.Backward(names[1:]) {
		if a, err := s.restoreWith(filepath.Join(s.dir, name), name[9:], read); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func (s *Store) restoreOne(dir, digest string) (Approved, error) {
	return s.restoreWith(dir, digest, map[string][]byte{})
}

// restoreWith reads an approval; read holds the blobs that were read before.
func (s *Store) restoreWith(dir, digest string, read map[string][]byte) (Approved, error) {
	raw, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return Approved{}, err
	}
	if canon.Digest(raw) != digest {
		return Approved{}, errors.New("its record has other bytes than were saved")
	}
	var a Approved
	if err := json.Unmarshal(raw, &a.record); err != nil {
		return Approved{}, fmt.Errorf("its record: %w", err)
	}
	if a.record.Format != recordFormat {
		return Approved{}, fmt.Errorf("its record has format %q, this meshc reads %q", a.record.Format, recordFormat)
	}
	if len(a.record.Releases) == 0 {
		return Approved{}, errors.New("its record names no release")
	}
	for i, want := range a.record.Releases {
		st, err := s.restoreStep(dir, i, want, read)
		if err != nil {
			return Approved{}, fmt.Errorf("step %d: %w", i, err)
		}
		a.steps = append(a.steps, st)
	}
	return a, nil
}

// restoreStep reads a release; read holds the blobs of the steps before.
func (s *Store) restoreStep(dir string, i int, want ReleaseStep, read map[string][]byte) (Step, error) {
	man, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(stepFile(i, manifestFile))))
	if err != nil {
		return Step{}, err
	}
	prov, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(stepFile(i, provenanceFile))))
	if err != nil {
		prov = nil // beside the release, no part of it
	}
	r, err := release.Assemble(man, prov, func(_, digest string) ([]byte, error) {
		if b, ok := read[digest]; ok {
			return b, nil
		}
		b, err := s.blob(digest)
		if err == nil {
			read[digest] = b
		}
		return b, err
	})
	if err != nil {
		return Step{}, err
	}
	if r.Digest() != want.Digest {
		return Step{}, fmt.Errorf("it is release %s, saved was %s", short(r.Digest()), short(want.Digest))
	}
	st := Step{Release: r}
	if want.From != "" {
		if st.From, err = time.Parse(time.RFC3339, want.From); err != nil {
			return Step{}, err
		}
	}
	return st, nil
}

// blob reads the bytes of that digest.
func (s *Store) blob(digest string) ([]byte, error) {
	if !blobName.MatchString(digest) {
		return nil, fmt.Errorf("%w: %q is no digest", release.ErrTampered, digest)
	}
	path := filepath.Join(s.dir, blobsDir, digest)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %q is not a regular file", release.ErrTampered, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if canon.Digest(b) != digest {
		return nil, fmt.Errorf("%w: %q has other bytes than were saved", release.ErrTampered, path)
	}
	s.good[digest] = true
	return b, nil
}
