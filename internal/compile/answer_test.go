package compile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// text is bytes large enough to cross as their change.
func text(t *rapid.T) []byte {
	b := bytes.Repeat([]byte("abcdefgh"), large/8)
	for range rapid.IntRange(0, 3).Draw(t, "edits") {
		at, to := rapid.IntRange(0, len(b)).Draw(t, "from"), rapid.IntRange(0, 40).Draw(t, "bytes")
		b = slices.Replace(b, at, min(len(b), at+to), bytes.Repeat([]byte("abc"), rapid.IntRange(0, 20).Draw(t, "new"))...)
	}
	return b
}

// layers are those of Positions.
type layers struct {
	whole *release.Provenance
	units map[string]*release.Provenance
}

// drawnLines has some of the layers before, and new ones.
func drawnLines(t *rapid.T, before layers) layers {
	layer := func(was *release.Provenance, prefix string) *release.Provenance {
		if was != nil && rapid.Bool().Draw(t, "stays") {
			return was
		}
		out := release.Provenance{}
		for i := range 3 {
			if line := rapid.IntRange(0, 2).Draw(t, "line"); line > 0 {
				out[fmt.Sprint(prefix, i)] = diag.Pos{Line: line}
			}
		}
		return &out
	}
	now := layers{layer(before.whole, "mesh/"), map[string]*release.Provenance{}}
	for i := range 3 {
		if unit := fmt.Sprint("service/ns/s", i); rapid.Bool().Draw(t, "is there") {
			now.units[unit] = layer(before.units[unit], unit+"/route/")
		}
	}
	return now
}

// Whatever steps follow each other, what is put together again is what was sent.
func TestAnswerKeepsSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newAnswer()
		var sent []compiler.Output
		var lines layers
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			lines = drawnLines(t, lines)
			out := compiler.Output{Positions: release.NewPositions(lines.units, lines.whole)}
			for i := range 4 {
				path := fmt.Sprintf("a/%d", i)
				switch rapid.IntRange(0, 3).Draw(t, "kind") {
				case 0:
					continue
				case 1:
					out.Artifacts = append(out.Artifacts, release.Artifact{Path: path})
				case 2:
					out.Artifacts = append(out.Artifacts, release.Artifact{Path: path, Bytes: []byte{byte(rapid.IntRange(0, 2).Draw(t, "byte"))}})
				default:
					out.Artifacts = append(out.Artifacts, release.Artifact{Path: path, Bytes: text(t)})
				}
				out.Places = append(out.Places, diag.Pos{Line: rapid.IntRange(0, 2).Draw(t, "line")})
			}
			sent = append(sent, out)
			a.add(date(), out)
		}
		parts, err := framed(a.head, a.blobs)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := decodeSteps(bytes.Join(parts, nil), Default())
		if err != nil || len(steps) != len(sent) {
			t.Fatalf("%d steps, %v", len(steps), err)
		}
		for i, out := range sent {
			want, err := release.Seal(out.Artifacts, out.Inputs, out.Provenance())
			if err != nil {
				t.Fatal(err)
			}
			same(t, want, steps[i].Release)
		}
	})
}

// What a child says of its blobs is not believed: neither places nor sizes.
func TestBlobsAreBounded(t *testing.T) {
	b := Bounds{Memory: 4 << 10} // a quarter of it may come out
	rest := bytes.Repeat([]byte("x"), 1000)
	for name, blobs := range map[string][]blob{
		"more than there is":  {{Bytes: 1001}},
		"less than nothing":   {{Bytes: -1}},
		"of itself":           {{Bytes: 1, Of: 0, Head: 1}},
		"of a later one":      {{Bytes: 1}, {Bytes: 1, Of: 2, Head: 1}},
		"of nothing":          {{Bytes: 1}, {Bytes: 1, Of: -1, Head: 1}},
		"longer than it":      {{Bytes: 10}, {Bytes: 1, Head: 11}},
		"a tail too long":     {{Bytes: 10}, {Bytes: 1, Tail: 11}},
		"a head below nought": {{Bytes: 10}, {Bytes: 1, Head: -1, Tail: 5}},
	} {
		if _, err := decodeBlobs(blobs, rest, b); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var e *ExceededError
	if _, err := decodeBlobs([]blob{{Bytes: 500}, {Head: 500, Tail: 100}}, rest, b); !errors.As(err, &e) {
		t.Errorf("blobs that grow: %v", err)
	}
	if got, err := decodeBlobs([]blob{{Bytes: 500}, {Bytes: 10, Head: 400, Tail: 100}}, rest, b); err != nil || len(got[1]) != 510 {
		t.Errorf("%d blobs, %v", len(got), err)
	}
}
