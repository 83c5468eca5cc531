package gitrepo

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"meshc.dev/meshc/internal/diag"
)

// kind is the type of an object.
type kind = plumbing.ObjectType

const (
	commitKind = plumbing.CommitObject
	tagKind    = plumbing.TagObject
	treeKind   = plumbing.TreeObject
	blobKind   = plumbing.BlobObject
)

// store reads the objects of one repository. go-git's storages are not safe for
// several goroutines, hence the lock.
type store struct {
	mu      sync.Mutex
	objects storer.EncodedObjectStorer
	limits  Limits
	cache   *cache
	// incomplete says that an object was asked for that is not there.
	incomplete atomic.Bool
}

func (s *store) read(ctx context.Context, k kind, hash string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := readObject(s.objects, s.limits, k, hash)
	return b, s.noticed(err)
}

func (s *store) noticed(err error) error {
	if r := (*Refused)(nil); errors.As(err, &r) && r.Code == diag.CodeGitMissing {
		s.incomplete.Store(true)
	}
	return err
}

func (s *store) size(ctx context.Context, hash string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.objects.EncodedObjectSize(plumbing.NewHash(hash))
	if err != nil {
		return 0, s.noticed(objectError("blob "+hash, err))
	}
	return n, nil
}

// remembered gives what parse makes of an object, from the cache if it was read
// before. What is wrong with an object is remembered like what is right; that it
// was not there, or could not be read now, is not.
func remembered[T any](ctx context.Context, s *store, k kind, hash string, parse func(raw []byte) (T, error)) (T, error) {
	if v, ok := s.cache.get(k, hash); ok {
		if r, bad := v.(*Refused); bad {
			again := *r // callers add to it
			return *new(T), &again
		}
		return v.(T), nil
	}
	raw, err := s.read(ctx, k, hash)
	var out T
	if err == nil {
		out, err = parse(raw)
	}
	var r *Refused
	switch {
	case err == nil:
		s.cache.put(k, hash, out, len(raw))
	case errors.As(err, &r) && r.Code != diag.CodeGitMissing:
		again := *r
		s.cache.put(k, hash, &again, len(r.Reason))
	}
	return out, err
}
