package gitrepo

import (
	"slices"
	"strings"
)

// tagRefs are the tags of a snapshot: names without refs/tags/, sorted, each once, and
// beside each the hash of the object that it names. A repository may have tens of
// thousands, and every look takes them anew: taking them is one allocation each at most.
type tagRefs struct {
	names, hashes []string
}

// put adds a tag. Of two with one name the later counts, after sort.
func (t *tagRefs) put(name, hash string) {
	t.names, t.hashes = append(t.names, name), append(t.hashes, hash)
}

// sort brings tags that were put in any order, mostly by name already, into order.
func (t *tagRefs) sort() {
	rising := true
	for i := 1; i < len(t.names) && rising; i++ {
		rising = t.names[i-1] < t.names[i]
	}
	if rising {
		return
	}
	at := make([]int, len(t.names))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(a, b int) int { return strings.Compare(t.names[a], t.names[b]) })
	var sorted tagRefs
	for i, from := range at {
		if i+1 < len(at) && t.names[at[i+1]] == t.names[from] {
			continue
		}
		sorted.put(t.names[from], t.hashes[from])
	}
	*t = sorted
}

// hash is that of one tag, "" if there is none of that name.
func (t *tagRefs) hash(name string) string {
	if i, ok := slices.BinarySearch(t.names, name); ok {
		return t.hashes[i]
	}
	return ""
}

// under are the names that begin with prefix. Read only.
func (t *tagRefs) under(prefix string) []string {
	from, _ := slices.BinarySearch(t.names, prefix)
	n, _ := slices.BinarySearchFunc(t.names[from:], prefix, func(name, prefix string) int {
		if strings.HasPrefix(name, prefix) {
			return -1
		}
		return 1
	})
	return slices.Clip(t.names[from : from+n])
}

func (t *tagRefs) equal(o *tagRefs) bool {
	return slices.Equal(t.names, o.names) && slices.Equal(t.hashes, o.hashes)
}
