//go:build !race

package compile

const (
	// raced says that the race detector is built in: its own memory counts, too.
	raced = false
	// slow is how many times as long a child may take here as it does without it.
	slow = 1
)
