package approval

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func twoApproved(t *testing.T) (old, next Approved) {
	t.Helper()
	w := newWorld(t)
	old = w.approved(w.commit(&w.alice, "bookinfo/a.cue", "1", "bookinfo/b.cue", "b"), State{})
	next = w.approved(w.commit(&w.ops, "bookinfo/a.cue", "2", "until", w.now.Add(time.Hour).Format(time.RFC3339)), old.State())
	return old, next
}

func save(t *testing.T, dir string, as ...Approved) {
	t.Helper()
	s := NewStore(dir)
	for _, a := range as {
		if err := s.Save(a); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestoreGivesWhatWasSaved(t *testing.T) {
	old, next := twoApproved(t)
	dir := filepath.Join(t.TempDir(), "prod")
	if _, err := NewStore(dir).Restore(); !errors.Is(err, ErrNothingStored) {
		t.Fatalf("empty folder: %v", err)
	}
	save(t, dir, old, next, old, next)
	got, err := NewStore(dir).Restore()
	if err != nil {
		t.Fatal(err)
	}
	if got.Commit() != next.Commit() || len(got.Steps()) != 2 || !got.Steps()[1].From.Equal(next.Steps()[1].From) {
		t.Errorf("restored %+v", got.Record())
	}
	if a, b := got.State(), next.State(); a.Tip != b.Tip || a.Place != b.Place || len(a.Seen) != len(b.Seen) {
		t.Errorf("state %+v, want %+v", a, b)
	}
	if earlier := NewStore(dir).Earlier(); len(earlier) != 3 || earlier[0].Commit() != old.Commit() || earlier[1].Commit() != next.Commit() || earlier[2].Commit() != old.Commit() {
		t.Errorf("%d earlier approvals", len(earlier))
	}
	for range kept {
		save(t, dir, next)
	}
	if names, err := stored(dir); err != nil || len(names) != kept {
		t.Errorf("kept %v, %v", names, err)
	}
}

// What only the newer approval has costs nothing but that one; a blob that both have
// costs both. Nothing else than what was saved is ever restored, and the next process
// that saves writes anew what is damaged.
func TestEveryFlippedByteIsFound(t *testing.T) {
	old, next := twoApproved(t)
	dir := t.TempDir()
	save(t, dir, old, next)
	names, err := stored(dir)
	if err != nil {
		t.Fatal(err)
	}
	shared := map[string]bool{}
	for _, st := range old.Steps() {
		for _, d := range st.Release.Manifest().Artifacts {
			shared[d] = true
		}
	}
	flipped, both := 0, 0
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(p, names[1]) || strings.HasSuffix(p, provenanceFile) { // beside the release, not part of it
			return err
		}
		raw, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for _, at := range []int{0, len(raw) / 2, len(raw) - 1} {
			bad := append([]byte{}, raw...)
			bad[at] ^= 0x04
			if err := os.WriteFile(p, bad, 0o600); err != nil {
				return err
			}
			a, err := NewStore(dir).Restore()
			var damaged *Damaged
			switch {
			case err == nil && a.Commit() == next.Commit() && a.At(time.Now()).Digest() == next.At(time.Now()).Digest():
				// The manifest notes inputs that are no part of the release's name.
				if !strings.HasSuffix(p, manifestFile) {
					t.Errorf("%s byte %d: not noticed", p, at)
				}
			case !errors.As(err, &damaged):
				t.Errorf("%s byte %d: restored %q, %v", p, at, a.Commit(), err)
			case shared[d.Name()]:
				both++
				if a.Commit() != "" || len(damaged.Errs) != 2 {
					t.Errorf("%s byte %d: restored %q, %v", p, at, a.Commit(), err)
				}
			case a.Commit() != old.Commit():
				t.Errorf("%s byte %d: restored %q, %v", p, at, a.Commit(), err)
			}
			flipped++
		}
		return os.WriteFile(p, raw, 0o600)
	})
	if err != nil || flipped < 20 || both == 0 {
		t.Fatalf("%d bytes flipped, %d in what both have, %v", flipped, both, err)
	}
	for _, blob := range blobs(t, dir) {
		if err := os.WriteFile(blob, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := NewStore(dir)
	if a, err := again.Restore(); err == nil || a.Commit() != "" {
		t.Errorf("all blobs damaged: %q, %v", a.Commit(), err)
	}
	if err := again.Save(next); err != nil {
		t.Fatal(err)
	}
	if a, err := NewStore(dir).Restore(); err != nil || a.Commit() != next.Commit() {
		t.Errorf("saved over damaged blobs: %q, %v", a.Commit(), err)
	}
	names, _ = stored(dir)
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name, recordFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var damaged *Damaged
	if a, err := NewStore(dir).Restore(); !errors.As(err, &damaged) || len(damaged.Errs) != len(names) || a.Commit() != "" {
		t.Errorf("all damaged: %q, %v", a.Commit(), err)
	}
}

func blobs(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, blobsDir, "*"))
	if err != nil || len(list) == 0 {
		t.Fatalf("%v, %v", list, err)
	}
	return list
}

// An approval that shares most of its bytes with the one before costs the files that
// differ; what nobody needs any more goes, and what a crash left too.
func TestSaveWritesWhatHasChanged(t *testing.T) {
	old, next := twoApproved(t)
	dir := t.TempDir()
	s := NewStore(dir)
	for _, a := range []Approved{old, next} {
		if err := s.Save(a); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".tmp-1", filepath.Join(blobsDir, ".tmp-2"), filepath.Join(blobsDir, strings.Repeat("0", 64))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := map[string]os.FileInfo{}
	for _, b := range blobs(t, dir) {
		before[b], _ = os.Stat(b)
	}
	fresh := NewStore(dir)
	if _, err := fresh.Restore(); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Save(old); err != nil {
		t.Fatal(err)
	}
	needed, same := map[string]bool{}, 0
	for _, a := range []Approved{old, next} {
		for _, st := range a.Steps() {
			for _, d := range st.Release.Manifest().Artifacts {
				needed[d] = true
			}
		}
	}
	list := blobs(t, dir)
	for _, b := range list {
		if now, err := os.Stat(b); err == nil && os.SameFile(now, before[b]) {
			same++
		}
	}
	if len(list) != len(needed) || same == 0 {
		t.Errorf("%d blobs for %d digests, %d left as they were", len(list), len(needed), same)
	}
	for _, st := range next.Steps() { // what was read and found whole is not written again
		for _, d := range st.Release.Manifest().Artifacts {
			b := filepath.Join(dir, blobsDir, d)
			if now, err := os.Stat(b); err != nil || !os.SameFile(now, before[b]) {
				t.Errorf("%s was written again: %v", d, err)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".tmp-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Attack 27 of the delivery path: full disk or crash at every step of saving.
func TestSaveStoppedAtEveryStepLeavesOldOrNew(t *testing.T) {
	old, next := twoApproved(t)
	var steps []string
	full := errors.New("no space left on device")
	all := NewStore(filepath.Join(t.TempDir(), "x"))
	all.reached = func(s string) error { steps = append(steps, s); return nil }
	if err := all.Save(next); err != nil || len(steps) < 5 {
		t.Fatal(steps, err)
	}
	for _, stop := range steps {
		t.Run(stop, func(t *testing.T) {
			dir := t.TempDir()
			save(t, dir, old)
			stopped := NewStore(dir)
			stopped.reached = func(s string) error {
				if s == stop {
					return full
				}
				return nil
			}
			err := stopped.Save(next)
			if !errors.Is(err, full) {
				t.Fatalf("saved although the disk is full: %v", err)
			}
			a, err := NewStore(dir).Restore()
			if err != nil || (a.Commit() != old.Commit() && a.Commit() != next.Commit()) {
				t.Fatalf("restored %q, %v", a.Commit(), err)
			}
			save(t, dir, next)
			if a, err := NewStore(dir).Restore(); err != nil || a.Commit() != next.Commit() {
				t.Errorf("afterwards %q, %v", a.Commit(), err)
			}
		})
	}
}

// A process that may not write another byte, as on a full disk.
func TestSaveWithoutRoomKeepsTheOld(t *testing.T) {
	const env = "MESHC_TEST_FULL_DIR"
	if dir := os.Getenv(env); dir != "" {
		old, next := twoApproved(t)
		save(t, dir, old)
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 16, Max: 16}); err != nil {
			t.Fatal(err)
		}
		if err := NewStore(dir).Save(next); !errors.Is(err, syscall.EFBIG) {
			t.Fatalf("saved without room: %v", err)
		}
		if a, err := NewStore(dir).Restore(); err != nil || a.Commit() != old.Commit() {
			t.Fatalf("restored %q, %v", a.Commit(), err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSaveWithoutRoomKeepsTheOld$")
	cmd.Env = append(os.Environ(), env+"="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A process that saves for ever is killed at random moments: what it leaves is
// always whole.
func TestKilledWhileSaving(t *testing.T) {
	const env = "MESHC_TEST_SAVE_DIR"
	if dir := os.Getenv(env); dir != "" {
		old, next := twoApproved(t)
		save(t, dir, old)
		for {
			save(t, dir, next, old)
		}
	}
	for i := range 8 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileSaving$")
		cmd.Env = append(os.Environ(), env+"="+dir, "TMPDIR="+t.TempDir()) // killed, it removes nothing of its own
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(2 * time.Minute)
		for {
			if names, err := stored(dir); err != nil {
				t.Fatal(err)
			} else if len(names) > 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the child saved nothing")
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(i*7) * time.Millisecond) // spreads the kill over the steps
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed: always an error
		if a, err := NewStore(dir).Restore(); err != nil || a.Commit() == "" {
			t.Fatalf("after kill %d: %q, %v", i, a.Commit(), err)
		}
	}
}
