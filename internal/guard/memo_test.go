package guard

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// In parts or whole, with a memo or without, a policy sees the same document for
// every mesh that follows another.
func TestMemoGivesTheSameInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, memo := Input{At: at(t), Environment: "prod"}, &Memo{}
		var forms []json.RawMessage // of services; what stays keeps its place
		for step := range rapid.IntRange(1, 5).Draw(t, "meshes") {
			services := make([]json.RawMessage, rapid.IntRange(0, 4).Draw(t, "services"))
			for i := range services {
				if i >= len(forms) || rapid.Bool().Draw(t, "changes") {
					forms = append(forms[:min(i, len(forms))], append([]json.RawMessage{drawnObject(t)}, forms[min(i+1, len(forms)):]...)...)
				}
				services[i] = forms[i]
			}
			parts := Mesh{Rest: json.RawMessage(`{"environment": "prod", "n": 1.50}`), Services: services}
			text, err := json.Marshal(parts)
			if err != nil {
				t.Fatal(err)
			}
			plain, with := base, base
			plain.Mesh, with.Mesh, with.Memo = Mesh{Rest: text}, parts, memo
			want, err := plain.value()
			if err != nil {
				t.Fatal(err)
			}
			got, err := with.value()
			if err != nil || got.Compare(want) != 0 || got.Hash() != want.Hash() {
				t.Fatalf("mesh %d: got %.300v, %v, want %.300v", step, got, err, want)
			}
		}
	})
}

// drawnObject is a JSON object in bytes of its own.
func drawnObject(t *rapid.T) json.RawMessage {
	b, err := json.Marshal(map[string]any{
		"id":   rapid.String().Draw(t, "id"),
		"port": map[string]any{"number": rapid.Int64().Draw(t, "number"), "names": rapid.SliceOfN(rapid.String(), 0, 2).Draw(t, "names")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMalformedPartsAreErrors(t *testing.T) {
	for _, bad := range []string{"", "[]", "null", "5", "{", "{}{}", "{\"a\": }"} {
		for name, mesh := range map[string]Mesh{
			"rest":    {Rest: json.RawMessage(bad)},
			"service": {Rest: json.RawMessage("{}"), Services: []json.RawMessage{json.RawMessage("{}"), json.RawMessage(bad)}},
		} {
			in := Input{At: at(t), Mesh: mesh, Memo: &Memo{}}
			if _, err := in.value(); err == nil {
				t.Errorf("%s %q is read", name, bad)
			}
		}
	}
}
