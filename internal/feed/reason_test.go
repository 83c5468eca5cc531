package feed

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A repository that cannot be read is told once, and once more when there is another
// reason: what was told first must not stand for ever.
func TestAnotherReasonIsTold(t *testing.T) {
	s := newSite(t, "")
	git := filepath.Join(s.repo.Dir, ".git")
	head, aside := filepath.Join(git, "HEAD"), filepath.Join(t.TempDir(), "HEAD")
	f := s.feed(func(*Config) {})
	s.want(events(f, 1), Approved)
	if err := os.Rename(head, aside); err != nil {
		t.Fatal(err)
	}
	s.want(events(f, 2), Unreachable)
	if err := syscall.Mkfifo(head, 0o600); err != nil {
		t.Fatal(err)
	}
	s.want(events(f, 2), Unreachable)
	if err := os.Rename(aside, head); err != nil {
		t.Fatal(err)
	}
	s.want(events(f, 2), Reachable)
}
