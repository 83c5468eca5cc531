package prove

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"meshc.dev/meshc/compiler/internal/space"
)

// Cuts keeps how patterns cut a dimension's values into classes, for questions that have
// patterns in common: the services of a fleet are alike. The zero Cuts is empty; several
// goroutines may use one. What it keeps changes no answer.
type Cuts struct {
	mu   sync.Mutex
	kept map[string]*atoms
	size int
}

// mostKept bounds what is kept, in pairs of pattern and class; large tables are rarely two
// questions' own.
const mostKept = 1 << 20

// atomize is atomize, or what it said of the same patterns before.
func (c *Cuts) atomize(patterns, without []space.Pattern, universe string, maxStates int) (*atoms, error) {
	if c == nil {
		return atomize(patterns, without, universe, maxStates)
	}
	key := cutKey(patterns, without, universe, maxStates)
	c.mu.Lock()
	a, ok := c.kept[key]
	c.mu.Unlock()
	if ok {
		return a, nil
	}
	a, err := atomize(patterns, without, universe, maxStates)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if size := (1 + len(patterns)) * len(a.witness); c.size+size <= mostKept {
		if c.kept == nil {
			c.kept = map[string]*atoms{}
		}
		c.kept[key], c.size = a, c.size+size
	}
	return a, nil
}

func cutKey(patterns, without []space.Pattern, universe string, maxStates int) string {
	var b strings.Builder
	part := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	part(strconv.Itoa(maxStates))
	part(universe)
	part(strconv.Itoa(len(without)))
	for _, p := range slices.Concat(without, patterns) {
		part(string(p.Kind))
		part(p.Text)
	}
	return b.String()
}
