package prove

import "math/bits"

// bitset is a set of small numbers; its length is fixed by who made it. nil
// stands for "everything" wherever a domain may be unrestricted.
type bitset []uint64

func newBits(n int) bitset { return make(bitset, (n+63)/64) }

func fullBits(n int) bitset {
	b := newBits(n)
	for i := range n {
		b.add(i)
	}
	return b
}

func (b bitset) add(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

func (b bitset) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

func (b bitset) meets(c bitset) bool {
	for i, w := range b {
		if w&c[i] != 0 {
			return true
		}
	}
	return false
}

func (b bitset) within(c bitset) bool {
	for i, w := range b {
		if w&^c[i] != 0 {
			return false
		}
	}
	return true
}

func (b bitset) and(c bitset) bitset {
	out := make(bitset, len(b))
	for i, w := range b {
		out[i] = w & c[i]
	}
	return out
}

func (b bitset) minus(c bitset) bitset {
	out := make(bitset, len(b))
	for i, w := range b {
		out[i] = w &^ c[i]
	}
	return out
}

func (b bitset) or(c bitset) bitset {
	out := make(bitset, len(b))
	for i, w := range b {
		out[i] = w | c[i]
	}
	return out
}

func (b bitset) orInto(c bitset) {
	for i, w := range c {
		b[i] |= w
	}
}

// each calls f with every member, in order, until f returns false.
func (b bitset) each(f func(int) bool) {
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			if !f(i*64 + bits.TrailingZeros64(w)) {
				return
			}
		}
	}
}

func (b bitset) first() int {
	for i, w := range b {
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

func (b bitset) count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}
