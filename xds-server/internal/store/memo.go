package store

import "sync"

// Memo remembers results of pure functions, each computed once even if many ask
// at the same time. It holds two generations: when the young one is full, the
// old one is forgotten and the young one becomes old. What is asked for moves
// to the young one.
type Memo[K comparable, V any] struct {
	mu         sync.Mutex
	limit      int
	size       func(V) int
	young, old map[K]func() V
	used       int
}

// NewMemo makes a memo of which each generation holds about half of limit, in
// the unit of size.
func NewMemo[K comparable, V any](limit int, size func(V) int) *Memo[K, V] {
	return &Memo[K, V]{limit: limit, size: size, young: map[K]func() V{}}
}

// Do returns f's result for k.
func (m *Memo[K, V]) Do(k K, f func() V) V {
	m.mu.Lock()
	once, ok := m.young[k]
	if ok {
		m.mu.Unlock()
		return once()
	}
	if once, ok = m.old[k]; !ok {
		once = sync.OnceValue(f)
	}
	m.young[k] = once
	m.mu.Unlock()
	v := once()
	m.account(m.size(v))
	return v
}

func (m *Memo[K, V]) account(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used += n; m.used < m.limit/2 {
		return
	}
	m.old, m.young, m.used = m.young, map[K]func() V{}, 0
}
