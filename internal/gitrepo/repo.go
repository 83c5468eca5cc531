package gitrepo

import (
	"context"
	"sync"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// Options say how a repository is reached. The zero value reads local folders,
// and https and ssh without credentials.
type Options struct {
	Schemes Schemes
	Limits  Limits
	Auth    Auth
	// Timeout bounds one fetch, and one read of a local folder; default one minute. A
	// server that sends nothing has a third of it.
	Timeout time.Duration
	// TagPrefix limits the tags that are fetched and read, default "meshc/".
	TagPrefix string
}

func (o Options) orDefault() Options {
	o.Limits = o.Limits.orDefault()
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.TagPrefix == "" {
		o.TagPrefix = "meshc/"
	}
	return o
}

// idle is how long a server may send nothing.
func (o Options) idle() time.Duration { return o.Timeout / 3 }

// Repo is a source and one ref of it. It is safe for use by several goroutines.
type Repo struct {
	ref  string
	mu   sync.Mutex
	last *Snapshot
	from interface {
		fetch(ctx context.Context, ref string, last *Snapshot) (*Snapshot, error)
		close()
	}
}

// Open checks the address and the ref and returns the repository without
// reading it: that is Fetch. Errors are *Refused.
func Open(address, ref string, o Options) (*Repo, error) {
	src, err := ParseSource(address, o.Schemes)
	if err != nil {
		return nil, err
	}
	if err := CheckRef(ref); err != nil {
		return nil, err
	}
	o = o.orDefault()
	r := &Repo{ref: ref}
	if src.Kind == Local {
		r.from = newLocal(src.Address, o)
	} else if r.from, err = newRemote(src, o); err != nil {
		return nil, err
	}
	return r, nil
}

// Fetch returns the repository as it is now. If neither the ref nor a tag moved
// since the last call, it returns the same Snapshot. A *Refused means that the
// repository is not acceptable; every other error that it may be so later.
func (r *Repo) Fetch(ctx context.Context) (*Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.from.fetch(ctx, r.ref, r.last)
	if err == nil {
		err = s.Within(ctx).checkHead()
	}
	if err != nil {
		return nil, err
	}
	if r.last != nil && r.last.store.objects == s.store.objects && r.last.head == s.head && r.last.tags.equal(&s.tags) {
		return r.last, nil
	}
	r.last = s
	return s, nil
}

// Close gives back the files that are kept open between fetches. Snapshots must not
// be read any more.
func (r *Repo) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from.close()
}

func (s *Snapshot) checkHead() error {
	if s.head == "" {
		return refuse(diag.CodeGitMissing, "ref "+quote(s.ref), "the repository does not have it").
			fix("push the branch, or change the ref")
	}
	_, err := s.Commit(s.head)
	return err
}
