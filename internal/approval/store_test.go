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
	for _, a := range as {
		if err := Save(dir, a); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestoreGivesWhatWasSaved(t *testing.T) {
	old, next := twoApproved(t)
	dir := filepath.Join(t.TempDir(), "prod")
	if _, err := Restore(dir); !errors.Is(err, ErrNothingStored) {
		t.Fatalf("empty folder: %v", err)
	}
	save(t, dir, old, next, old, next)
	got, err := Restore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Commit() != next.Commit() || len(got.Steps()) != 2 || !got.Steps()[1].From.Equal(next.Steps()[1].From) {
		t.Errorf("restored %+v", got.Record())
	}
	if a, b := got.State(), next.State(); a.Tip != b.Tip || a.Place != b.Place || len(a.Seen) != len(b.Seen) {
		t.Errorf("state %+v, want %+v", a, b)
	}
	if names, err := stored(dir); err != nil || len(names) != kept {
		t.Errorf("kept %v, %v", names, err)
	}
}

func TestEveryFlippedByteIsFoundAndThePreviousServed(t *testing.T) {
	old, next := twoApproved(t)
	dir := t.TempDir()
	save(t, dir, old, next)
	names, err := stored(dir)
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	err = filepath.WalkDir(filepath.Join(dir, names[0]), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if strings.HasSuffix(p, "provenance.json") {
			return nil // beside the release, not part of it
		}
		for _, at := range []int{0, len(raw) / 2, len(raw) - 1} {
			bad := append([]byte{}, raw...)
			bad[at] ^= 0x04
			if err := os.WriteFile(p, bad, 0o600); err != nil {
				return err
			}
			a, err := Restore(dir)
			var damaged *Damaged
			switch {
			case err == nil && a.Commit() == next.Commit() && a.At(time.Now()).Digest() == next.At(time.Now()).Digest():
				// The manifest notes inputs that are no part of the release's name.
				if !strings.HasSuffix(p, "manifest.json") {
					t.Errorf("%s byte %d: not noticed", p, at)
				}
			case !errors.As(err, &damaged) || a.Commit() != old.Commit():
				t.Errorf("%s byte %d: restored %q, %v", p, at, a.Commit(), err)
			}
			flipped++
		}
		return os.WriteFile(p, raw, 0o600)
	})
	if err != nil || flipped < 20 {
		t.Fatalf("%d bytes flipped, %v", flipped, err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name, recordFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var damaged *Damaged
	if a, err := Restore(dir); !errors.As(err, &damaged) || len(damaged.Errs) != 2 || a.Commit() != "" {
		t.Errorf("both damaged: %q, %v", a.Commit(), err)
	}
}

// Attack 27 of the delivery path: full disk or crash at every step of saving.
func TestSaveStoppedAtEveryStepLeavesOldOrNew(t *testing.T) {
	old, next := twoApproved(t)
	var steps []string
	full := errors.New("no space left on device")
	if err := (saver{reached: func(s string) error { steps = append(steps, s); return nil }}).save(filepath.Join(t.TempDir(), "x"), next); err != nil {
		t.Fatal(err)
	}
	for _, stop := range steps {
		t.Run(stop, func(t *testing.T) {
			dir := t.TempDir()
			save(t, dir, old)
			err := saver{reached: func(s string) error {
				if s == stop {
					return full
				}
				return nil
			}}.save(dir, next)
			if !errors.Is(err, full) {
				t.Fatalf("saved although the disk is full: %v", err)
			}
			a, err := Restore(dir)
			if err != nil || (a.Commit() != old.Commit() && a.Commit() != next.Commit()) {
				t.Fatalf("restored %q, %v", a.Commit(), err)
			}
			save(t, dir, next)
			if a, err := Restore(dir); err != nil || a.Commit() != next.Commit() {
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
		if err := Save(dir, next); !errors.Is(err, syscall.EFBIG) {
			t.Fatalf("saved without room: %v", err)
		}
		if a, err := Restore(dir); err != nil || a.Commit() != old.Commit() {
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
		cmd.Env = append(os.Environ(), env+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
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
		if a, err := Restore(dir); err != nil || a.Commit() == "" {
			t.Fatalf("after kill %d: %q, %v", i, a.Commit(), err)
		}
	}
}
