package gatewayapi

import (
	"reflect"
	"testing"

	"meshc.dev/meshc/compiler/internal/model"
)

// A condition of the language that this target forgets would let requests pass that are not meant:
// each has a form here, or is refused.
func TestNoConditionIsForgotten(t *testing.T) {
	samples := map[reflect.Type]any{
		reflect.TypeFor[model.Path]():         model.Path{Kind: model.PathExact, Value: "/x"},
		reflect.TypeFor[[]string]():           []string{"GET"},
		reflect.TypeFor[string]():             model.SchemeHTTPS,
		reflect.TypeFor[[]model.ValueMatch](): []model.ValueMatch{{Name: "x", Kind: "exact", Value: "1"}},
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[model.Match]()) {
		sample, ok := samples[field.Type]
		if !ok {
			t.Fatalf("%s: there is no sample of a %s", field.Name, field.Type)
		}
		var m model.Match
		reflect.ValueOf(&m).Elem().FieldByIndex(field.Index).Set(reflect.ValueOf(sample))
		if got, _, err := matches(m); err == nil && len(got) == 0 {
			t.Errorf("%s: a match with this condition alone takes everything", field.Name)
		}
	}
}
