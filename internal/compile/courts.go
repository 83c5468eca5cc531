package compile

import (
	"context"
	"io/fs"
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
	key    string
	once   sync.Once
	engine *guard.Engine
	ds     diag.List
}

// Convene compiles the policies, or takes them as they were compiled before. With errors in
// the list the court does not sit. Of the same policies, compiled elsewhere at this time, it
// awaits the end.
func (c *Compiler) Convene(ctx context.Context, user Rego) (Court, diag.List) {
	files, key := user.fixed()
	if key == "" {
		engine, ds := guard.New(ctx, policies.FS, user.Files)
		return Court{engine, user, &c.courts.memo}, user.Located(ds)
	}
	set := c.courts.set(key)
	set.once.Do(func() { set.engine, set.ds = guard.New(ctx, policies.FS, files) })
	if set.engine == nil { // it may have been for want of time
		c.courts.forget(set)
	}
	return Court{set.engine, user, &c.courts.memo}, user.Located(append(diag.List(nil), set.ds...))
}

// Foresee has policies compiled beside what goes on, for a Convene that will ask for them.
func (c *Compiler) Foresee(ctx context.Context, user Rego) { go c.Convene(ctx, user) }

// set is the one of a key; a new one takes the place of the oldest.
func (c *courts) set(key string) *policySet {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sets {
		if s.key == key {
			return s
		}
	}
	s := &policySet{key: key}
	if c.sets = append(c.sets, s); len(c.sets) > maxCourts {
		c.sets = c.sets[1:]
	}
	return s
}

func (c *courts) forget(set *policySet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kept []*policySet
	for _, s := range c.sets {
		if s != set {
			kept = append(kept, s)
		}
	}
	c.sets = kept
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
