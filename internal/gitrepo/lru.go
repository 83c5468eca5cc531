package gitrepo

import (
	"container/list"
	"sync"
)

// lru keeps values up to a number of bytes, as their users estimate them. What was
// used longest ago is forgotten first.
type lru[K comparable, V any] struct {
	mu    sync.Mutex
	limit int64
	used  int64
	order *list.List // of *kept, the most recently used first
	byKey map[K]*list.Element
}

type kept[K comparable, V any] struct {
	key   K
	value V
	cost  int64
}

func newLRU[K comparable, V any](limit int64) *lru[K, V] {
	return &lru[K, V]{limit: limit, order: list.New(), byKey: map[K]*list.Element{}}
}

func (l *lru[K, V]) get(key K) (value V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.byKey[key]
	if !ok {
		return value, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*kept[K, V]).value, true
}

// put keeps a value in place of the one before, unless it alone would drive out most
// of the others.
func (l *lru[K, V]) put(key K, value V, cost int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byKey[key]; ok {
		l.forget(e)
	}
	if cost > l.limit/4 {
		return
	}
	l.byKey[key] = l.order.PushFront(&kept[K, V]{key, value, cost})
	for l.used += cost; l.used > l.limit; {
		l.forget(l.order.Back())
	}
}

func (l *lru[K, V]) forget(e *list.Element) {
	k := l.order.Remove(e).(*kept[K, V])
	delete(l.byKey, k.key)
	l.used -= k.cost
}

// cache keeps what was read and checked, by hash, across snapshots: every look
// reads the same history again, and any number of refs may name one object. An
// object cannot change under its hash.
type cache = lru[cacheKey, any] // of Commit, Tag, []entry or verdict

// cacheKey has the kind, because a verdict on a hash may be that it names
// something else.
type cacheKey struct {
	kind kind
	hash string
}

// cacheBytes is room for the history of some ten thousand commits.
const cacheBytes = 96 << 20

// objectCost is about what a parsed object takes in memory.
func objectCost(bytes int) int64 { return 512 + 2*int64(bytes) }

func newCache() *cache { return newLRU[cacheKey, any](cacheBytes) }
