package content

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

// An encoded assignment shows its state, however many there were.
func TestAnAssignmentShowsItsState(t *testing.T) {
	for _, c := range []struct{ state, newest int }{{0, 0}, {1, 1}, {3, 7}, {249, 249}, {250, 250}, {251, 300}, {260, 509}, {499, 500}} {
		raw, err := proto.Marshal(Assignment(0, c.state))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := StateIn(raw, c.newest); !ok || got != c.state {
			t.Errorf("state %d of %d is read as %d, %v", c.state, c.newest, got, ok)
		}
	}
	if _, ok := StateIn([]byte("nothing"), 5); ok {
		t.Error("a state is read from nothing")
	}
}
