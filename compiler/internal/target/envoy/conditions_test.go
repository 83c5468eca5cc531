package envoy

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

func testConditions() Conditions {
	return Conditions{"method": OnField(":method"), "header:": OnHeaders(), "query:": OnParameters(), "scheme": OnField(SchemeField)}
}

// A condition that this target forgot would let requests pass that are not meant: each has a
// form here, or is refused.
func TestNoConditionIsForgotten(t *testing.T) {
	everything, err := testConditions().routeMatch(model.Match{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range space.Dimensions() {
		dim := space.Dim(d.Name)
		if d.IsFamily() {
			dim += "x"
		}
		m := model.NewMatch(model.Path{}, space.Values(dim, "1"))
		if got, err := testConditions().routeMatch(m); err == nil && proto.Equal(got, everything) {
			t.Errorf("%s: a match with this condition alone takes everything", d.Name)
		}
		if _, err := (Conditions{}).routeMatch(m); err == nil && dim != space.PathDim { // of which the route says all itself
			t.Errorf("%s: a condition without a cell is left out", d.Name)
		}
	}
}
