package faults

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// The names are those of gRPC, as its own implementation numbers them.
func TestEndsAreThoseOfGRPC(t *testing.T) {
	plain := func(name string) string {
		return strings.NewReplacer("-", "", "ll", "l").Replace(strings.ToLower(name))
	}
	for number, name := range ends() {
		if own := codes.Code(number).String(); plain(name) != plain(own) { //nolint:gosec // 17 of them
			t.Errorf("%d is %s, and %q here", number, own, name)
		}
	}
	if own := codes.Code(len(ends())).String(); !strings.HasPrefix(own, "Code(") { //nolint:gosec // as above
		t.Errorf("%s has no name", own)
	}
}
