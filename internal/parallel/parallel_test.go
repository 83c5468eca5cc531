package parallel

import "testing"

// Every piece is done, and once.
func TestEach(t *testing.T) {
	for _, n := range []int{0, 1, 2, 1000} {
		done := make([]int, n)
		Each(n, func(i int) { done[i]++ })
		for i, times := range done {
			if times != 1 {
				t.Errorf("of %d pieces, number %d is done %d times", n, i, times)
			}
		}
	}
}
