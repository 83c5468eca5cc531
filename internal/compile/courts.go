package compile

import (
	"context"
	"io/fs"
	"slices"
	"sync"
	"testing/fstest"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/policies"
)

// maxCourts is how many sets of policies stay compiled: those of the two sides of a change, of
// now and of the round before.
const maxCourts = 4

// courts are the policies that a Compiler compiled, for whoever brings the same ones again, and
// what they read of a mesh, which is the same for all of them.
type courts struct {
	memo guard.Memo

	mu   sync.Mutex
	sets []*policySet // the last one was made last
}

// policySet are compiled policies, by the digest of what a user adds to the shipped ones.
type policySet struct {
	key  string
	done chan struct{} // closed once the rest is there
	policyResult
}

// policyResult is what a compile of policies gives: no engine with an error in the list.
type policyResult struct {
	engine *guard.Engine
	ds     diag.List
}

// Convene compiles the policies, or takes them as they were compiled before. With errors in
// the list the court does not sit. Of the same policies, compiled elsewhere at this time, it
// awaits the end, as long as ctx lasts.
func (c *Compiler) Convene(ctx context.Context, user Rego) (Court, diag.List) {
	files, key := user.fixed()
	if key == "" {
		files = user.Files
	}
	build := func() (r policyResult) {
		r.engine, r.ds = guard.New(ctx, policies.FS, files)
		return r
	}
	var r policyResult
	if key == "" {
		r = build()
	} else {
		r = c.courts.compiled(ctx, key, build)
	}
	return Court{r.engine, user, &c.courts.memo}, user.Located(slices.Clone(r.ds))
}

// compiled is what build gives, or gave somebody who brought the same policies. What others
// failed at they may have failed at for want of their own time: it is tried anew.
func (c *courts) compiled(ctx context.Context, key string, build func() policyResult) policyResult {
	for {
		set, first := c.set(key)
		if first {
			defer func() { // whoever waits goes on, whatever becomes of build
				if set.engine == nil {
					c.forget(set)
				}
				close(set.done)
			}()
			set.policyResult = build()
			return set.policyResult
		}
		select {
		case <-set.done:
		case <-ctx.Done():
			return build() // whose words for that are its own
		}
		if set.engine != nil {
			return set.policyResult
		}
	}
}

// Foresee has policies compiled beside what goes on, for a Convene that will ask for them.
func (c *Compiler) Foresee(ctx context.Context, user Rego) { go c.Convene(ctx, user) }

// set is the one of a key, and whether it is new: then it takes the place of the oldest, and
// whoever got it is to fill it.
func (c *courts) set(key string) (s *policySet, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sets {
		if s.key == key {
			return s, false
		}
	}
	s = &policySet{key: key, done: make(chan struct{})}
	if c.sets = append(c.sets, s); len(c.sets) > maxCourts {
		c.sets = c.sets[1:]
	}
	return s, true
}

func (c *courts) forget(set *policySet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sets = slices.DeleteFunc(c.sets, func(s *policySet) bool { return s == set })
}

// fixed are a user's files as they are now, and the name of all that a compile of them
// depends on; "" if some of them is none that a compile takes.
func (u Rego) fixed() (fs.FS, string) {
	if u.Files == nil {
		return nil, "shipped"
	}
	u, err := copied(u)
	files, ok := u.Files.(fstest.MapFS)
	if err != nil || !ok {
		return nil, ""
	}
	digests := map[string]string{}
	for name, f := range files {
		if !f.Mode.IsRegular() || len(f.Data) > guard.MaxFile {
			return nil, ""
		}
		digests[name] = canon.Digest(f.Data)
	}
	b, err := canon.JSON(digests)
	if err != nil {
		return nil, ""
	}
	return files, canon.Digest(b)
}
