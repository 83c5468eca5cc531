package gatewayapi

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

func testConditions() Conditions {
	return Conditions{"method": OnMethod(), "header:": OnHeaders(), "query:": OnParameters(), "scheme": RefuseCondition("no")}
}

// A condition that this target forgot would let requests pass that are not meant: each has a
// form here, or is refused.
func TestNoConditionIsForgotten(t *testing.T) {
	for _, d := range space.Dimensions() {
		dim := space.Dim(d.Name)
		if d.IsFamily() {
			dim += "x"
		}
		m := model.NewMatch(model.Path{}, space.Values(dim, "1"))
		if got, _, err := testConditions().matches(m); err == nil && len(got) == 0 {
			t.Errorf("%s: a match with this condition alone takes everything", d.Name)
		}
		if _, _, err := (Conditions{}).matches(m); err == nil {
			t.Errorf("%s: a condition without a cell is left out", d.Name)
		}
	}
}
