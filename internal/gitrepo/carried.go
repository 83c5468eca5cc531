package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/storage/memory"

	"meshc.dev/meshc/internal/diag"
)

// Carried is a mirror that was brought from somewhere: its version there, which names
// its bytes, and its files, or why that version brings none. Neither if it was had
// already.
type Carried struct {
	Version string
	Files   []File
	Refused *Refused
}

// Carry brings a mirror unless its version is have, "" for none. What it brings need
// not be trusted, but fits into memory. Errors are a *Refused if what is there is not
// acceptable, else it may be so later.
type Carry func(ctx context.Context, have string) (Carried, error)

// OpenCarried is Open for a mirror that carry brings; name is what errors call it.
func OpenCarried(name, ref string, carry Carry, o Options) (*Repo, error) {
	if err := CheckRef(ref); err != nil {
		return nil, err
	}
	o = o.orDefault()
	late := &TransportError{Step: "fetching " + quote(name), Err: fmt.Errorf("no whole answer within %s", o.Timeout)}
	return &Repo{ref: ref, from: &carried{name: name, carry: carry, opts: o, cache: newCache(), turn: newTurn(o.Timeout, late)}}, nil
}

// carried is a repository in memory, unpacked from a mirror.
type carried struct {
	name  string
	carry Carry
	opts  Options
	cache *cache
	turn  *turn
	// version is the mirror that was looked at last, snap or refused what came of it.
	version string
	snap    *Snapshot
	refused error
}

func (c *carried) fetch(ctx context.Context, ref string, _ *Snapshot) (*Snapshot, error) {
	return inTurn(ctx, c.turn, func(ctx context.Context) (*Snapshot, error) {
		m, err := c.carry(ctx, c.version)
		if err != nil {
			return nil, err
		}
		switch {
		case m.Refused != nil:
			c.version, c.snap, c.refused = m.Version, nil, m.Refused
		case m.Files != nil:
			c.version = m.Version
			c.snap, c.refused = c.open(m.Files, ref)
		case c.snap == nil && c.refused == nil:
			return nil, &TransportError{Step: "fetching " + quote(c.name), Err: errors.New("nothing was brought")}
		}
		return c.snap, c.refused
	})
}

func (c *carried) close() {}

// open reads refs and packs. Everything that a pack has was counted before it is unpacked.
func (c *carried) open(files []File, ref string) (*Snapshot, error) {
	into, inflated := memory.NewStorage(), int64(0)
	s := newSnapshot(ref, nil)
	some := false
	for _, f := range files {
		switch {
		case f.Path == "packed-refs":
			if err := c.refs(s, f.Bytes); err != nil {
				return nil, err
			}
		case f.Path == ref:
			hash, _, ok := parseRef(f.Bytes)
			if !ok || hash == "" {
				return nil, c.no(diag.CodeGitObject, "ref %s is no hash", quote(ref))
			}
			s.head = hash
		case strings.HasPrefix(f.Path, "objects/pack/") && strings.HasSuffix(f.Path, ".pack"):
			some = true
			limits := c.opts.Limits
			if limits.Inflated -= inflated; limits.Inflated <= 0 {
				return nil, packLimit("it unpacks to more than %d bytes", c.opts.Limits.Inflated)
			}
			n, err := unpack(into, f.Bytes, limits)
			if err != nil {
				return nil, c.damaged(f.Path, err)
			}
			inflated += n
		}
	}
	if !some {
		return nil, c.no(diag.CodeGitMissing, "there is no pack in it")
	}
	s.tags.sort()
	s.store = newStore(&mirrored{fetched{byHash: into.Objects}}, c.opts.Limits, c.cache, newTurn(0, nil))
	return s, nil
}

// mirrored are the objects of a mirror.
type mirrored struct{ fetched }

func (*mirrored) whyMissing() (reason, fix string) {
	return "the mirror does not have it", "push it again with meshc push, from a full clone"
}

func (c *carried) no(code diag.Code, format string, args ...any) *Refused {
	return refuse(code, "the mirror from "+quote(c.name), format, args...).fix("push it again with meshc push")
}

func (c *carried) damaged(path string, err error) error {
	var r *Refused
	if errors.As(err, &r) {
		return err
	}
	return c.no(diag.CodeGitObject, "%s cannot be read: %v", quote(path), err)
}

// refs takes the tags of a file of packed refs, whose lines are bounded like all of it.
func (c *carried) refs(s *Snapshot, raw []byte) error {
	n := 0
	for line := range bytes.Lines(raw) {
		name, hash, ok := parsePacked(line)
		if !ok {
			return c.no(diag.CodeGitObject, "a line of packed-refs is not a hash and a name")
		}
		if n++; n > c.opts.Limits.Refs {
			return tooManyRefs(c.opts.Limits)
		}
		if name == "" {
			continue
		}
		if err := s.takeTag(name, hash, c.opts); err != nil {
			return err
		}
	}
	return nil
}

// unpack takes a pack apart that has to be whole by itself.
func unpack(into *memory.Storage, pack []byte, l Limits) (int64, error) {
	n, err := checkPack(pack, l)
	if err != nil {
		return 0, err
	}
	return n, packfile.UpdateObjectStorage(into, bytes.NewReader(pack))
}
