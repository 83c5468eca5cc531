//go:build !race

package compile

// raced says that the race detector is built in: its own memory counts, too.
const raced = false
