package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meshc.dev/meshc/ci/bench/internal/hostile"
	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/gitrepo"
)

// look measures what a server does at each look at a repository into which others
// push: with many tags, with long headers, with a long range of commits.
func (b *bench) look(s report.Section) error {
	dir, err := os.MkdirTemp("", "meshc-look-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	commits, tags := 300, 20_000
	if b.quick {
		commits, tags = 20, 500
	}
	b.say("a repository of %d signed commits", commits)
	r, err := hostile.New(dir, commits)
	if err != nil {
		return err
	}
	alone, err := b.lookTwice(r)
	if err != nil {
		return err
	}
	s.Add(fmt.Sprintf("range of %d commits, no tags", commits), measure.MS(alone.first), "ms", "a server without state; CPU %s ms; again %s ms", ms(alone.cpu), ms(alone.again))
	if err := r.Idle(tags - 1); err != nil {
		return err
	}
	idle, err := b.lookTwice(r)
	if err != nil {
		return err
	}
	s.AtMost(1.5, fmt.Sprintf("the same with %d tags of nobody", tags-1), measure.MS(idle.first)/measure.MS(alone.first), "times", "%s ms; again %s ms", ms(idle.first), ms(idle.again))
	if err := r.Statements(tags - 1); err != nil {
		return err
	}
	signed, err := b.lookTwice(r)
	if err != nil {
		return err
	}
	s.AtMost(2000, fmt.Sprintf("%d tags that name a known key", tags-1), measure.MS(signed.first), "ms", "each signature is checked once; CPU %s ms", ms(signed.cpu))
	s.AtMost(200, "the next look at them", measure.MS(signed.again), "ms", "")
	return b.headers(s, filepath.Join(dir, "headers"))
}

type looked struct{ first, cpu, again time.Duration }

// lookTwice verifies the head as a server without state does, and once more.
func (b *bench) lookTwice(r *hostile.Repo) (l looked, err error) {
	repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		return l, fmt.Errorf("opening: %w", err)
	}
	defer repo.Close()
	trust, ds := approval.LoadTrust(r.Trust)
	if err := ds.Err(); err != nil {
		return l, fmt.Errorf("reading the trust policy: %w", err)
	}
	once := func() (time.Duration, error) {
		start := time.Now()
		snap, err := repo.Fetch(b.ctx)
		if err != nil {
			return 0, fmt.Errorf("fetching: %w", err)
		}
		c := approval.Candidate{Snapshot: snap, Environment: "prod", Compiler: "bench"}
		if c.Commit, err = approval.Next(c, approval.State{}, trust, start); err != nil {
			return 0, fmt.Errorf("looking for the next commit: %w", err)
		}
		approval.Ignored(c, approval.State{}, trust, start)
		if _, err := approval.CheckHistory(c, approval.State{}, trust, start); err != nil {
			return 0, fmt.Errorf("checking the history: %w", err)
		}
		return time.Since(start), nil
	}
	used := measure.CPU()
	if l.first, err = once(); err != nil {
		return l, err
	}
	l.cpu = measure.CPU() - used
	l.again, err = once()
	return l, err
}

// headers measures reading tags whose header is cut into many lines: within the
// default limits they are refused by their size, so that the limits are wide here.
func (b *bench) headers(s report.Section, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	r, err := hostile.New(dir, 0)
	if err != nil {
		return err
	}
	at := map[int]time.Duration{}
	sizes := []int{64, 256, 1024, 4096}
	for _, kib := range sizes {
		if err := r.LongTag(fmt.Sprintf("meshc/long/%d", kib), kib<<10); err != nil {
			return err
		}
	}
	for _, kib := range sizes {
		for range 5 {
			repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{Limits: gitrepo.Limits{TagBytes: 1 << 30, HeaderBytes: 1 << 30}})
			if err != nil {
				return fmt.Errorf("opening: %w", err)
			}
			snap, err := repo.Fetch(b.ctx)
			if err != nil {
				return fmt.Errorf("fetching: %w", err)
			}
			start := time.Now()
			_, err = snap.Tag(fmt.Sprintf("meshc/long/%d", kib))
			if took := time.Since(start); at[kib] == 0 || took < at[kib] {
				at[kib] = took
			}
			repo.Close()
			if err == nil || !strings.Contains(err.Error(), "tagger line") {
				return fmt.Errorf("a header of %d KiB: %w", kib, err)
			}
		}
		s.Add(fmt.Sprintf("a tag with a header of %d KiB", kib), measure.MS(at[kib]), "ms", "one unsigned tag, read and parsed; best of 5")
	}
	s.AtMost(1.25, "growth from 256 KiB to 4 MiB", exponent(at, 256, 4096), "exponent", "1 is linear")
	return nil
}
