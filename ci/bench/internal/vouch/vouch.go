// Package vouch makes releases approved without Git, for measuring what comes after.
//
// In: a release. Out: an Approved, by the way of a server's own store: what was
// verified once is taken from disk after a restart. The measurement owns the
// folder, as an operator owns that of a server.
package vouch

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/canon"
)

// Environment is that of every approval.
const Environment = "bench"

// Store is a folder of approvals.
type Store struct {
	dir string
	n   int
}

// New names the folder; it must be empty or missing.
func New(dir string) *Store { return &Store{dir: dir} }

// Commit is the name of the n-th approval, counted from 1: forty digits.
func Commit(n int) string { return fmt.Sprintf("%040d", n) }

// Count is how many approvals there were.
func (s *Store) Count() int { return s.n }

// Approve stores the release as the newest approval and restores it.
func (s *Store) Approve(r release.Release) (approval.Approved, error) {
	if err := os.RemoveAll(s.dir); err != nil {
		return approval.Approved{}, fmt.Errorf("approving: %w", err)
	}
	s.n++
	now := time.Now().UTC()
	raw, err := canon.JSON(approval.Record{
		Format: "meshc.dev/approval/v1", Commit: Commit(s.n), Environment: Environment, Repository: "bench", Ref: "refs/heads/main",
		Place: approval.Place{Position: int64(s.n)}, Tip: Commit(s.n), VerifiedAt: now, EvidenceAt: now,
		Releases: []approval.ReleaseStep{{Digest: r.Digest()}},
	})
	if err != nil {
		return approval.Approved{}, fmt.Errorf("approving: %w", err)
	}
	dir := filepath.Join(s.dir, fmt.Sprintf("%08d-%s", s.n, canon.Digest(raw)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return approval.Approved{}, fmt.Errorf("approving: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "record.json"), raw, 0o600); err != nil {
		return approval.Approved{}, fmt.Errorf("approving: %w", err)
	}
	if err := release.WriteDir(r, filepath.Join(dir, "steps", "000")); err != nil {
		return approval.Approved{}, err
	}
	return approval.Restore(s.dir)
}
