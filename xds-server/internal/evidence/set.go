package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/xds-server/internal/ledger"
)

// Limits of a Set. A receipt takes some 400 bytes, one with a failure 1 KiB.
const (
	// MaxInstances are remembered of one class.
	MaxInstances = 10_000
	// MaxReceipts are remembered of one instance, the newest.
	MaxReceipts = 24
	// MaxClasses are remembered at all.
	MaxClasses = 20_000
)

// Set is a set of receipts. The zero Set is empty. It is not safe for concurrent use.
type Set struct {
	classes map[string]Class
	limits  limits
}

type limits struct{ instances, receipts, classes int }

func (l limits) orDefault() limits {
	if l == (limits{}) {
		return limits{MaxInstances, MaxReceipts, MaxClasses}
	}
	return l
}

// Class is what is known of the proxies of a class. Read only.
type Class map[Instance]Record

// Record is what one proxy said. Read only.
type Record map[key]Receipt

// Add puts a receipt in, and reports whether that changed anything.
func (s *Set) Add(r Receipt) bool {
	if !r.valid() {
		return false
	}
	if s.classes == nil {
		s.classes = map[string]Class{}
	}
	class, ok := s.classes[r.Class]
	if !ok {
		class = Class{}
		s.classes[r.Class] = class
	}
	rec, ok := class[r.Instance]
	if !ok {
		rec = Record{}
		class[r.Instance] = rec
	}
	old, ok := rec[r.key()]
	if ok && compare(r, old) <= 0 {
		return false
	}
	rec[r.key()] = r
	s.trim(r.Class, r.Instance)
	_, kept := s.classes[r.Class][r.Instance][r.key()]
	return kept
}

// trim drops what is over the limits. What stays depends on the whole only, never
// on the order in which it came.
func (s *Set) trim(class string, who Instance) {
	l := s.limits.orDefault()
	rec := s.classes[class][who]
	for len(rec) > l.receipts {
		var oldest *Receipt
		for _, r := range rec {
			if oldest == nil || compare(r, *oldest) < 0 {
				oldest = &r
			}
		}
		delete(rec, oldest.key())
	}
	if c := s.classes[class]; len(c) > l.instances {
		delete(c, slices.MaxFunc(slices.Collect(maps.Keys(c)), func(a, b Instance) int { return byDigest(string(a), string(b)) }))
	}
	if len(s.classes) > l.classes {
		delete(s.classes, slices.MaxFunc(slices.Collect(maps.Keys(s.classes)), byDigest))
	}
}

// byDigest is an order that nobody can choose a place in.
func byDigest(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	if c := binary.BigEndian.Uint64(x[:]); c != binary.BigEndian.Uint64(y[:]) {
		if c < binary.BigEndian.Uint64(y[:]) {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}

// Merge puts all receipts of other in, and reports the classes that changed.
func (s *Set) Merge(other *Set) []string {
	changed := map[string]bool{}
	for r := range other.All() {
		if s.Add(r) {
			changed[r.Class] = true
		}
	}
	return slices.Sorted(maps.Keys(changed))
}

// All yields the receipts in no order.
func (s *Set) All() iter.Seq[Receipt] {
	return func(yield func(Receipt) bool) {
		for _, c := range s.classes {
			for _, rec := range c {
				for _, r := range rec {
					if !yield(r) {
						return
					}
				}
			}
		}
	}
}

// Class is what is known of a class; nil if nothing is.
func (s *Set) Class(name string) Class { return s.classes[name] }

// Len is the number of receipts.
func (s *Set) Len() int {
	n := 0
	for range s.All() {
		n++
	}
	return n
}

// Member tells whether the proxy counts at now: its certificate has not ended.
func (rec Record) Member(now time.Time) bool {
	for _, r := range rec {
		if now.Before(r.Until) {
			return true
		}
	}
	return false
}

// Before tells whether the proxy said anything before t.
func (rec Record) Before(t time.Time) bool {
	for _, r := range rec {
		if r.Joined.Before(t) {
			return true
		}
	}
	return false
}

// Says tells whether the proxy said anything of the content.
func (rec Record) Says(content string) bool {
	for k := range rec {
		if k.content == content {
			return true
		}
	}
	return false
}

// Confirmed returns when the proxy confirmed the content last; false if it never did.
func (rec Record) Confirmed(content string) (time.Time, bool) {
	r, ok := rec[key{content, ""}]
	return r.At, ok
}

// Failure returns the last failure of the content that no confirmation followed.
func (rec Record) Failure(content string) (Receipt, bool) {
	confirmed, _ := rec.Confirmed(content)
	var last Receipt
	found := false
	for k := range rec {
		if k.content != content || k.typ == "" {
			continue // a confirmation is of no type
		}
		if r := rec[k]; r.At.After(confirmed) && (!found || compare(r, last) > 0) {
			last, found = r, true
		}
	}
	return last, found
}

// following makes r the next fact that this set knows of: later than what it knows,
// whatever the clock says, and with its place in the row of refusals.
func (s *Set) following(r Receipt) Receipt {
	rec := s.classes[r.Class][r.Instance]
	for k, old := range rec {
		if k.content == r.Content && !old.At.Before(r.At) {
			r.At = old.At.Add(1)
		}
	}
	r.Attempts, r.Since, r.Joined = 0, r.At, r.At
	last, failing := rec.Failure(r.Content)
	if r.State != ledger.Acked {
		r.Attempts = last.Attempts + 1
	}
	if old, ok := rec[r.key()]; ok && failing == r.Failed() {
		r.Since = old.Since
	}
	if failing && r.Failed() {
		r.Since = last.Since
	}
	for _, old := range rec {
		r.Order = max(r.Order, old.Order+1)
		if old.Joined.Before(r.Joined) {
			r.Joined = old.Joined
		}
	}
	if r.Since.Before(r.Joined) {
		r.Joined = r.Since
	}
	return r
}
