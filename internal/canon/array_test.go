package canon

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// An array that is put into an object gives what encoding both at once gives.
func TestWithArray(t *testing.T) {
	name := rapid.StringMatching(`[a-z_@.]{1,4}`)
	value := rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Map(rapid.Int(), func(n int) any { return n }),
		rapid.Map(rapid.MapOf(name, rapid.SliceOf(rapid.String())), func(m map[string][]string) any { return m }),
		rapid.Map(rapid.SliceOf(rapid.MapOf(name, rapid.String())), func(s []map[string]string) any { return s }),
	)
	rapid.Check(t, func(t *rapid.T) {
		object, field := rapid.MapOf(name, value).Draw(t, "object"), name.Draw(t, "field")
		delete(object, field)
		text := encoded(t, object)
		list := rapid.SliceOf(value).Draw(t, "list")
		elements := make([][]byte, len(list))
		for i, v := range list {
			elements[i] = Element(encoded(t, v))
		}
		if len(list) > 0 {
			object[field] = list
		}
		if got, want := WithArray(text, field, elements), encoded(t, object); !bytes.Equal(got, want) {
			t.Fatalf("got\n%s, want\n%s", got, want)
		}
	})
}

func encoded(t *rapid.T, v any) []byte {
	t.Helper()
	b, err := JSON(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
