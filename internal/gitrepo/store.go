package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

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

// objects is where a store finds objects by hash. It is used by one goroutine at a
// time. What is not there is errNoObject; other errors that are not unreadable are
// about the object.
type objects interface {
	// stat gives an object's kind and size without unpacking it.
	stat(hash string) (kind, int64, error)
	// read unpacks an object, if accept takes its kind and size.
	read(hash string, accept func(kind, int64) error) ([]byte, error)
	// whyMissing says what may be the cause that an object is not there, and the way out.
	whyMissing() (reason, fix string)
}

var errNoObject = errors.New("it is not in the repository")

// store reads the objects of one repository, checks them and remembers them.
type store struct {
	objects objects
	limits  Limits
	cache   *cache
	turn    *turn
	// incomplete says that an object was asked for that is not there.
	incomplete atomic.Bool
	// looks counts how often the source was opened: until the next time, what could not
	// be read stays so.
	looks atomic.Int64
}

func newStore(o objects, l Limits, c *cache, t *turn) *store {
	return &store{objects: o, limits: l, cache: c, turn: t}
}

// silentError is a file system that does not answer.
func silentError(after time.Duration) error {
	return &TransportError{Step: "reading the repository's files", Err: fmt.Errorf("no answer within %s", after), OnDisk: true}
}

// read returns an object's bytes after computing its hash again. The size is known
// first, so that a huge object is refused before it is unpacked.
func (s *store) read(ctx context.Context, want kind, hash string) ([]byte, error) {
	subject := want.String() + " " + quote(hash)
	if !IsHash(hash) {
		return nil, refuse(diag.CodeGitObject, subject, "not a full hash").fix("name the object by its 40 digits")
	}
	subject = want.String() + " " + hash
	b, err := inTurn(ctx, s.turn, func(context.Context) ([]byte, error) {
		return s.objects.read(hash, func(is kind, size int64) error {
			if is != want {
				return refuse(diag.CodeGitObject, subject, "it is a %s", is).fix("point to a %s", want)
			}
			if most := s.limits.of(want); size > most {
				return refuse(diag.CodeGitLimit, subject, "%d bytes, the limit for a %s is %d", size, want, most).
					fix("keep %ss of that size out of the intent repository", want)
			}
			return nil
		})
	})
	if err != nil {
		return nil, s.objectError(subject, err)
	}
	// The hash is SHA-1 with collision detection: bytes that belong to a
	// colliding pair hash to something else.
	if plumbing.ComputeHash(want, b) != plumbing.NewHash(hash) {
		return nil, refuse(diag.CodeGitObject, subject, "its bytes do not have that hash: the object is damaged, or made to collide").
			fix("run git fsck on the repository and fetch the object again")
	}
	return b, nil
}

// size is the size of a file's object.
func (s *store) size(ctx context.Context, hash string) (int64, error) {
	n, err := inTurn(ctx, s.turn, func(context.Context) (int64, error) {
		_, n, err := s.objects.stat(hash)
		return n, err
	})
	if err != nil {
		return 0, s.objectError("blob "+hash, err)
	}
	return n, nil
}

// objectError makes a verdict of what is wrong with an object, and leaves alone what
// says nothing about it.
func (s *store) objectError(subject string, err error) error {
	var refused *Refused
	var transport *TransportError
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, errNoObject):
		s.incomplete.Store(true)
		reason, fix := s.objects.whyMissing()
		return refuse(diag.CodeGitMissing, subject, "%s", reason).fix("%s", fix)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.As(err, &transport):
		return err
	case unreadable(err):
		return &TransportError{Step: "reading " + subject, Err: err, OnDisk: true}
	}
	return refuse(diag.CodeGitObject, subject, "it cannot be read: %v", err).fix("run git fsck on the repository")
}

// verdict is what is wrong with an object.
type verdict struct {
	Refused
	// look is the one for which it holds, or always.
	look int64
}

// always is a verdict on bytes that have the object's hash: they cannot change.
// Damage can be repaired, and the kind and size that refuse an object before it is
// read are part of it.
const always = -1

// remembered gives what parse makes of an object, from the cache if it was read
// before. What is wrong with an object is remembered like what is right, but for what
// was read of it before its hash was seen to fit: that is as long as a look. That it
// was not there, or could not be read now, is not remembered.
func remembered[T any](ctx context.Context, s *store, k kind, hash string, parse func(raw []byte) (T, error)) (T, error) {
	look := s.looks.Load()
	if v, ok := s.cache.get(cacheKey{k, hash}); ok {
		bad, is := v.(verdict)
		if !is {
			return v.(T), nil
		}
		if bad.look == always || bad.look == look {
			return *new(T), &bad.Refused // a copy: callers add to it
		}
	}
	raw, err := s.read(ctx, k, hash)
	var out T
	if err == nil {
		look = always
		out, err = parse(raw)
	}
	var r *Refused
	switch {
	case err == nil:
		s.cache.put(cacheKey{k, hash}, out, objectCost(len(raw)))
	case errors.As(err, &r) && r.Code != diag.CodeGitMissing:
		s.cache.put(cacheKey{k, hash}, verdict{*r, look}, objectCost(len(r.Reason)))
	}
	return out, err
}

// fetched are the objects that a server sent, in memory. They never change: a later
// fetch makes others.
type fetched struct {
	byHash map[plumbing.Hash]plumbing.EncodedObject
}

// with are these objects and those of a pack.
func (f *fetched) with(more map[plumbing.Hash]plumbing.EncodedObject) *fetched {
	all := make(map[plumbing.Hash]plumbing.EncodedObject, len(f.byHash)+len(more))
	maps.Copy(all, f.byHash)
	maps.Copy(all, more)
	return &fetched{all}
}

func (f *fetched) stat(hash string) (kind, int64, error) {
	o, ok := f.byHash[plumbing.NewHash(hash)]
	if !ok {
		return 0, 0, errNoObject
	}
	return o.Type(), o.Size(), nil
}

func (f *fetched) read(hash string, accept func(kind, int64) error) ([]byte, error) {
	o, ok := f.byHash[plumbing.NewHash(hash)]
	if !ok {
		return nil, errNoObject
	}
	if err := accept(o.Type(), o.Size()); err != nil {
		return nil, err
	}
	r, err := o.Reader()
	if err != nil {
		return nil, err
	}
	b := make([]byte, o.Size())
	_, err = io.ReadFull(r, b)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return b, err
}

func (f *fetched) whyMissing() (reason, fix string) {
	return "the server did not send it", "run git fsck on the server; meshc asks again, ever more rarely"
}
