package prove

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/space"
)

// What two patterns of accounts both take is one pattern, or is not said.
func TestAccountsThatBothTake(t *testing.T) {
	ns := func(s string) space.Pattern {
		return space.Pattern{Kind: space.Prefix, Text: "spiffe://td/ns/" + s + "/sa/"}
	}
	wild := func(s string) space.Pattern { return space.Pattern{Kind: space.Wild, Text: "spiffe://td/ns/" + s} }
	exact := func(s string) space.Pattern { return space.Pattern{Kind: space.Exact, Text: "spiffe://td/ns/" + s} }
	for _, c := range []struct {
		p, o, want space.Pattern
		none       bool
	}{
		{p: ns("edge"), o: wild("*/sa/gw"), want: exact("edge/sa/gw")},
		{p: ns("edge"), o: wild("*/sa/gw-*"), want: wild("edge/sa/gw-*")},
		{p: wild("team-*/sa/*"), o: wild("*/sa/gw"), want: wild("team-*/sa/gw")},
		{p: ns("team-a"), o: wild("team-*/sa/*"), want: ns("team-a")},
		{p: wild("*/sa/gw"), o: wild("*/sa/web"), none: true},
		{p: ns("edge"), o: ns("shop"), none: true},
		{p: wild("team-*/sa/*"), o: wild("*-prod/sa/*"), none: true},
	} {
		for _, pair := range [][2]space.Pattern{{c.p, c.o}, {c.o, c.p}} {
			got, ok := both(pair[0], pair[1])
			if ok == c.none || ok && got != c.want {
				t.Errorf("%v and %v: %v, %v; want %v", pair[0], pair[1], got, ok, c.want)
			}
		}
	}
}
