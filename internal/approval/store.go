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
)

// On disk, an environment's folder holds the current approval and the one before:
//
//	<number>-<digest of record.json>/record.json   the verification record
//	<number>-<digest of record.json>/steps/000/…   the releases
//
// A folder gets its name by one rename after everything in it is on the disk, and
// its name holds its digest. So there is no pointer that could be damaged or
// disagree: the whole folder with the highest number is the current one.

// ErrNothingStored says that a folder holds no approval yet.
var ErrNothingStored = errors.New("no approval is stored")

const (
	recordFile = "record.json"
	stepsDir   = "steps"
	tempPrefix = ".new-"
	kept       = 2
)

var storedName = regexp.MustCompile(`^([0-9]{8})-([0-9a-f]{64})$`)

// Save stores an approval beside the previous one. Whatever happens, dir then
// holds the old or the new state, whole. Two processes must not save to one dir.
func Save(dir string, a Approved) error {
	return saver{reached: func(string) error { return nil }}.save(dir, a)
}

// saver lets tests stop at each step, as a full disk or a crash does.
type saver struct{ reached func(step string) error }

func (s saver) save(dir string, a Approved) error {
	if a.Commit() == "" {
		return errors.New("saving approval: nothing is approved")
	}
	if err := s.write(dir, a); err != nil {
		return fmt.Errorf("saving approval of %s: %w", short(a.Commit()), err)
	}
	return nil
}

func (s saver) write(dir string, a Approved) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	names, err := stored(dir)
	if err != nil {
		return err
	}
	next := 1
	if len(names) > 0 {
		n, _ := strconv.Atoi(names[0][:8]) // eight digits, by storedName
		next = n + 1
	}
	if err := s.reached("start"); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, tempPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // a no-op after the rename
	digest, err := s.fill(tmp, a)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%08d-%s", next, digest)
	if err := s.reached("rename"); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return err
	}
	if err := s.reached("renamed"); err != nil {
		return err
	}
	if err := syncPath(dir); err != nil {
		return err
	}
	return s.prune(dir, names)
}

// fill writes everything into an unnamed folder and syncs it, bottom up.
func (s saver) fill(tmp string, a Approved) (digest string, err error) {
	for i, st := range a.steps {
		if err := s.reached(fmt.Sprintf("step %d", i)); err != nil {
			return "", err
		}
		if err := release.WriteDir(st.Release, filepath.Join(tmp, stepsDir, fmt.Sprintf("%03d", i))); err != nil {
			return "", err
		}
	}
	if err := s.reached("record"); err != nil {
		return "", err
	}
	raw, err := canon.JSON(a.record)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(tmp, recordFile), raw, 0o640); err != nil {
		return "", err
	}
	if err := s.reached("sync"); err != nil {
		return "", err
	}
	err = filepath.WalkDir(tmp, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !(d.IsDir() || d.Name() == recordFile) {
			return err
		}
		return syncPath(p)
	})
	return canon.Digest(raw), err
}

// prune removes what is neither the new approval nor the one before it, and what
// a crash left behind.
func (s saver) prune(dir string, older []string) error {
	if err := s.reached("prune"); err != nil {
		return err
	}
	for _, name := range older[min(len(older), kept-1):] {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		return err
	}
	for _, p := range left {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

func syncPath(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
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

// Restore returns the newest approval in dir whose bytes are all as they were
// saved. Nothing is verified again: that a key expired since does not matter. If
// a newer one is damaged, it returns the one before *and* a *Damaged error; with
// nothing usable the Approved is zero. ErrNothingStored: nothing was ever saved.
func Restore(dir string) (Approved, error) {
	names, err := stored(dir)
	if err != nil {
		return Approved{}, fmt.Errorf("restoring approval: %w", err)
	}
	if len(names) == 0 {
		return Approved{}, fmt.Errorf("restoring approval from %q: %w", dir, ErrNothingStored)
	}
	bad := &Damaged{Dir: dir}
	for _, name := range names {
		a, err := restoreOne(filepath.Join(dir, name), name[9:])
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

func restoreOne(dir, digest string) (Approved, error) {
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
		st, err := restoreStep(filepath.Join(dir, stepsDir, fmt.Sprintf("%03d", i)), want)
		if err != nil {
			return Approved{}, fmt.Errorf("step %d: %w", i, err)
		}
		a.steps = append(a.steps, st)
	}
	return a, nil
}

func restoreStep(dir string, want ReleaseStep) (Step, error) {
	r, err := release.ReadDir(os.DirFS(dir))
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
