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
	"meshc.dev/meshc/internal/durable"
)

// Environment is that of every approval.
const Environment = "bench"

// Store is a folder of approvals.
type Store struct {
	dir  string
	n    int
	last string // the folder of the last approval
}

// New names the folder; it must be empty or missing.
func New(dir string) *Store { return &Store{dir: dir} }

// Commit is the name of the n-th approval, counted from 1: forty digits.
func Commit(n int) string { return fmt.Sprintf("%040d", n) }

// Count is how many approvals there were.
func (s *Store) Count() int { return s.n }

// Approve stores the release as the newest approval and restores it.
func (s *Store) Approve(r release.Release) (approval.Approved, error) {
	if s.last != "" {
		if err := os.RemoveAll(s.last); err != nil {
			return approval.Approved{}, fmt.Errorf("approving: %w", err)
		}
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
	man, prov, err := r.Index()
	if err != nil {
		return approval.Approved{}, fmt.Errorf("approving: %w", err)
	}
	dir := filepath.Join(s.dir, fmt.Sprintf("%08d-%s", s.n, canon.Digest(raw)))
	if err := durable.WriteDir(dir, map[string][]byte{"record.json": raw, "steps/000/manifest.json": man, "steps/000/provenance.json": prov}, 0o600); err != nil {
		return approval.Approved{}, fmt.Errorf("approving: %w", err)
	}
	s.last = dir
	blobs := map[string][]byte{}
	for p, d := range r.Manifest().Artifacts {
		if _, err := os.Stat(filepath.Join(s.dir, "blobs", d)); err != nil {
			blobs[d], _ = r.Artifact(p)
		}
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "blobs"), 0o700); err != nil {
		return approval.Approved{}, fmt.Errorf("approving: %w", err)
	}
	if err := durable.WriteFiles(filepath.Join(s.dir, "blobs"), blobs, 0o600); err != nil {
		return approval.Approved{}, fmt.Errorf("approving: %w", err)
	}
	return approval.NewStore(s.dir).Restore()
}
