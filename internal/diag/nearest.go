package diag

import (
	"slices"
	"strings"
)

// Nearest returns the known name that a misspelt one was probably meant to be:
// at most a third of its letters may differ, and not all.
func Nearest(name string, known []string) (string, bool) {
	best, limit := "", max(1, len(name)/3)
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(strings.ToLower(name), strings.ToLower(k), limit); d <= limit && d < max(len(name), len(k)) && (best == "" || d < distance(strings.ToLower(name), strings.ToLower(best), limit)) {
			best = k
		}
	}
	return best, best != ""
}

// DidYouMean asks behind a sentence whether a word is a slip of the pen for one of those that
// there are; "" if it is none.
func DidYouMean(word string, known []string) string {
	near, ok := Nearest(word, known)
	if !ok {
		return ""
	}
	return "; did you mean " + near + "?"
}

// distance counts insertions, deletions, replacements and swaps of neighbours,
// and gives limit+1 as soon as it is clear that there are more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit || len(a) > 64 {
		return limit + 1
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
