package gitrepo

import (
	"container/list"
	"sync"
)

// cache keeps what was read and checked, by hash, across snapshots: every look
// reads the same history again, and any number of refs may name one object. An
// object cannot change under its hash. What was used longest ago is forgotten
// first; the whole is bounded in bytes, by estimate.
type cache struct {
	mu    sync.Mutex
	limit int64
	used  int64
	order *list.List // of *cached, the most recently used first
	byKey map[cacheKey]*list.Element
}

// cacheKey has the kind, because a verdict on a hash may be that it names
// something else.
type cacheKey struct {
	kind kind
	hash string
}

type cached struct {
	key   cacheKey
	value any // Commit, Tag, []entry or *Refused
	cost  int64
}

// cacheBytes is room for the history of some ten thousand commits.
const cacheBytes = 96 << 20

// entryCost is about what an entry takes beside its bytes.
const entryCost = 512

func newCache(limit int64) *cache {
	return &cache{limit: limit, order: list.New(), byKey: map[cacheKey]*list.Element{}}
}

func (c *cache) get(k kind, hash string) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[cacheKey{k, hash}]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).value, true
}

func (c *cache) put(k kind, hash string, value any, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key, cost := cacheKey{k, hash}, entryCost+2*int64(bytes)
	if _, ok := c.byKey[key]; ok || cost > c.limit/8 {
		return
	}
	c.byKey[key] = c.order.PushFront(&cached{key, value, cost})
	for c.used += cost; c.used > c.limit; {
		last := c.order.Remove(c.order.Back()).(*cached)
		delete(c.byKey, last.key)
		c.used -= last.cost
	}
}
