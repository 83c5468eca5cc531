package gitrepo

import (
	"container/heap"
	"errors"

	"meshc.dev/meshc/internal/diag"
)

// Fork is where two commits parted.
type Fork struct {
	// Commit is the newest commit that both descend from, as `git merge-base` names it; ""
	// if there is none, or if a shallow clone lacks what would lead to it.
	Commit string
	// Ahead is how many commits the other side has that this one lacks.
	Ahead int
}

// maxForked bounds the commits that are looked at between two branches.
const maxForked = 20_000

// MergeBase finds where this commit and another of the snapshot's repository parted.
// Errors are those of Commit, but for commits that are not there, and *Refused for
// histories that part too far back.
func (s *Snapshot) MergeBase(this, other string) (Fork, error) {
	w := walk{snap: s, seen: map[string]*walked{}}
	if err := w.reach(this, fromThis); err != nil {
		return Fork{}, err
	}
	if err := w.reach(other, fromOther); err != nil {
		return Fork{}, err
	}
	var both []*walked
	for len(w.queue) > 0 {
		w.closing = w.closing || !w.pending()
		c := heap.Pop(&w.queue).(*walked) //nolint:forcetypeassert // nothing else is in it
		c.queued = false
		sides := c.sides
		if sides == fromBoth {
			both = append(both, c)
			sides |= shared
		}
		for _, p := range c.Parents {
			if err := w.reach(p, sides); err != nil {
				return Fork{}, err
			}
		}
	}
	var out Fork
	for _, c := range both {
		if c.sides == fromBoth { // and no newer base leads to it, as where dates are wrong
			out.Commit = c.Hash
			break
		}
	}
	for _, c := range w.seen {
		if c.sides == fromOther {
			out.Ahead++
		}
	}
	return out, nil
}

// The sides that a commit was reached from. What a common commit leads to is shared, and
// is no base itself.
const (
	fromThis = 1 << iota
	fromOther
	shared
	fromBoth = fromThis | fromOther
)

type walked struct {
	Commit
	sides  int
	queued bool
}

// walk goes from both sides to parents, the newest commit first.
type walk struct {
	snap  *Snapshot
	seen  map[string]*walked
	queue byDate
	// closing says that only what both have is left: commits that are known still may
	// turn out to be among that, others do not matter.
	closing bool
}

// pending says whether a commit is left that not both sides have.
func (w *walk) pending() bool {
	for _, c := range w.queue {
		if c.sides&shared == 0 {
			return true
		}
	}
	return false
}

// reach notes that a commit was reached, and comes to it again if that is news. One that a
// shallow clone lacks ends its line.
func (w *walk) reach(hash string, sides int) error {
	c := w.seen[hash]
	if c == nil && w.closing {
		return nil
	}
	if c == nil {
		if len(w.seen) >= maxForked {
			return refuse(diag.CodeGitLimit, "commit "+hash, "the histories part more than %d commits ago", maxForked).fix("compare with a nearer commit, or --merge-base=false")
		}
		commit, err := w.snap.Commit(hash)
		var gone *Refused
		if errors.As(err, &gone) && gone.Code == diag.CodeGitMissing {
			return nil
		}
		if err != nil {
			return err
		}
		c = &walked{Commit: commit}
		w.seen[hash] = c
	}
	if c.sides|sides == c.sides {
		return nil
	}
	c.sides |= sides
	if !c.queued {
		c.queued = true
		heap.Push(&w.queue, c)
	}
	return nil
}

// byDate is a heap whose first commit is the newest.
type byDate []*walked

func (q byDate) Len() int           { return len(q) }
func (q byDate) Less(i, j int) bool { return q[i].Committer.When.After(q[j].Committer.When) }
func (q byDate) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *byDate) Push(x any)        { *q = append(*q, x.(*walked)) } //nolint:forcetypeassert // from heap alone
func (q *byDate) Pop() any {
	old := *q
	c := old[len(old)-1]
	*q = old[:len(old)-1]
	return c
}
