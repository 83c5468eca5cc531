package approval

import "sync"

// remembered bounds each of a memory's two generations. It is above the number of
// tags that a repository may have, so that a look does not forget what it began with.
const remembered = 50_000

// memory keeps what follows from a Git object, by the object's hash, for as long
// as the policy that it was judged by is in use. What is looked at again stays;
// what no look asks for is dropped when a generation is full. Safe for several
// goroutines; a nil memory keeps nothing.
type memory[T any] struct {
	mu       sync.Mutex
	now, old map[string]T
}

// get returns what is kept, or makes and keeps it. Two goroutines may both make it.
func (m *memory[T]) get(object string, make func() T) T {
	if object == "" {
		return make()
	}
	if v, ok := m.look(object); ok {
		return v
	}
	v := make()
	m.keep(object, v)
	return v
}

func (m *memory[T]) look(object string) (v T, ok bool) {
	if m == nil {
		return v, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok = m.now[object]; ok {
		return v, true
	}
	if v, ok = m.old[object]; ok {
		m.put(object, v)
	}
	return v, ok
}

func (m *memory[T]) keep(object string, v T) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(object, v)
}

func (m *memory[T]) put(object string, v T) {
	if m.now == nil || len(m.now) >= remembered {
		m.now, m.old = map[string]T{}, m.now
	}
	m.now[object] = v
}
