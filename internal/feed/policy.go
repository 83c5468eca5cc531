package feed

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
)

// Policy is what a trust policy's file holds now: a policy, or why it is none.
type Policy struct {
	Trust approval.Trust
	Err   error
}

// take makes a policy the one that holds, whole or not at all.
func (f *Feed) take(p Policy) {
	if p.Err == nil {
		p.Err = f.fits(p.Trust)
	}
	if p.Err != nil {
		if f.policy != p.Err.Error() {
			f.policy = p.Err.Error()
			f.tell(Event{Kind: PolicyRefused, Err: p.Err})
		}
		return
	}
	same := p.Trust.Digest == f.c.Trust.Digest
	if same && f.policy == "" {
		return
	}
	f.policy = ""
	f.note(PolicyRefused, nil)
	if !same {
		f.c.Trust, f.settled = p.Trust, nil
	}
	f.tell(Event{Kind: PolicyTaken})
}

// fits refuses a policy for something else than this server follows.
func (f *Feed) fits(t approval.Trust) error {
	old := f.c.Trust
	what := ""
	switch _, ok := t.Environments[f.c.Environment]; {
	case t.Repository != old.Repository:
		what = fmt.Sprintf("it is for repository %q, not for %q", t.Repository, old.Repository)
	case t.Ref != old.Ref:
		what = fmt.Sprintf("its ref is %s, this server follows %s", t.Ref, old.Ref)
	case t.RootCommit != old.RootCommit:
		what = "it has another rootCommit, from which positions count"
	case !ok:
		what = fmt.Sprintf("it has no environment %q any more", f.c.Environment)
	case t.Environments[f.c.Environment].Position != old.Environments[f.c.Environment].Position:
		what = fmt.Sprintf("it counts positions of environment %q in another way", f.c.Environment)
	default:
		return nil
	}
	d := diag.New(diag.CodeTrustReload, diag.Pos{}, "the new trust policy cannot take the place of the one in use: %s", what)
	return &approval.ProblemError{D: d.WithFix("restart the server if that is meant, or correct the file")}
}

const (
	policyRest = 200 * time.Millisecond // nothing happens to the file for so long before it is read
	policyPoll = 30 * time.Second       // where the system tells nothing, and for the key files
)

// FollowPolicy gives what the trust policy at path holds, each time that it or a key
// file that it names changed, until ctx ends. A file is read when it has come to
// rest: what an editor has written half is no policy. Replace it by rename. (Names
// that begin with ".." are what Kubernetes swaps when a mounted ConfigMap changes.)
func FollowPolicy(ctx context.Context, path string) <-chan Policy {
	out := make(chan Policy)
	go func() {
		defer close(out)
		var events chan fsnotify.Event // without any the poll remains
		var errs chan error
		if w, err := fsnotify.NewWatcher(); err == nil {
			defer w.Close()
			if w.Add(filepath.Dir(path)) == nil {
				events, errs = w.Events, w.Errors
			}
		}
		followPolicy(ctx, path, events, errs, policyPoll, out)
	}()
	return out
}

func followPolicy(ctx context.Context, path string, events <-chan fsnotify.Event, errs <-chan error, poll time.Duration, out chan<- Policy) {
	last := ""
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if name := filepath.Base(e.Name); name == filepath.Base(path) || strings.HasPrefix(name, "..") {
				rest.Reset(policyRest)
			}
			continue
		case err := <-errs: // such as events that were lost
			if err != nil {
				rest.Reset(policyRest)
			}
			continue
		case <-rest.C:
		}
		p, key := readPolicy(path)
		select {
		case <-ctx.Done():
			return
		case <-time.After(policyRest):
		}
		if again, now := readPolicy(path); now != key {
			p, key = again, "" // it moves: look again
		}
		wait := poll
		switch {
		case key == "":
			wait = policyRest
		case key != last:
			select {
			case out <- p:
				last = key
			case <-ctx.Done():
				return
			}
		}
		rest.Reset(wait)
	}
}

// readPolicy reads the file. Two readings with one key say the same.
func readPolicy(path string) (Policy, string) {
	t, problems := approval.LoadTrust(path)
	if err := problems.Err(); err != nil {
		return Policy{Err: err}, "no: " + err.Error()
	}
	return Policy{Trust: t}, t.Digest
}
