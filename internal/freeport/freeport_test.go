package freeport

import (
	"net"
	"testing"
)

// Ports are given once, beyond the end of a part, and are free; another process finds
// each part of them taken.
func TestNext(t *testing.T) {
	seen := map[int]bool{}
	for range 2*part + part/2 {
		port, err := Next()
		if err != nil {
			t.Fatal(err)
		}
		if port < first || port > last || port%part == 0 || seen[port] {
			t.Fatalf("port %d after %d others", port, len(seen))
		}
		seen[port] = true
	}
	if len(here.held) < 3 {
		t.Fatalf("%d parts are held", len(here.held))
	}
	for _, l := range here.held {
		if other, err := net.Listen("tcp", l.Addr().String()); err == nil {
			_ = other.Close()
			t.Errorf("another process takes the part of %s", l.Addr())
		}
	}
}
