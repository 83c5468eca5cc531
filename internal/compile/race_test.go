//go:build race

package compile

const (
	raced = true
	slow  = 5
)
