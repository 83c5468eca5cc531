package stream

import (
	"strconv"
	"testing"

	"meshc.dev/meshc/compiler/release"
)

// Whatever clients say of where they are, there are no more answers than places of workloads.
func TestPlacesAreThoseOfWorkloads(t *testing.T) {
	n := &near{zones: map[string]bool{"a": true, "b": true}, regions: map[string]bool{"r": true}}
	seen := map[release.Place]bool{}
	for i := range 1000 {
		for _, p := range []release.Place{{Region: "r", Zone: "a"}, {Region: strconv.Itoa(i), Zone: "a"}, {Region: "r", Zone: strconv.Itoa(i)}, {Region: strconv.Itoa(i), Zone: strconv.Itoa(i)}} {
			seen[n.known(p)] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d places: %v", len(seen), seen)
	}
}
