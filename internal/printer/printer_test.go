package printer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/printer/printertest"
)

func draw(t *rapid.T, name string) string {
	parts := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(printertest.Wicked()), rapid.SampledFrom([]string{"\x00", "\xff"}), rapid.String(), rapid.StringMatching(`[a-z :#\[]{1,5}`)), 0, 6).Draw(t, name)
	return strings.Join(parts, "")
}

func TestAValueStaysOnItsLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "a"), draw(t, "b")
		for _, format := range []string{"%s%v\n", "%v: %q\n", "  %-12s|%.12s\n", "x %s\n%s y\n"} {
			out := printer.Sprintf(format, a, errors.New(b))
			if why := printertest.Acts(out, nil); why != "" {
				t.Fatalf("%q: %q: %s", format, out, why)
			}
			if got, want := strings.Count(out, "\n"), strings.Count(format, "\n"); got != want {
				t.Fatalf("%q has %d lines, not %d: %q", format, got, want, out)
			}
		}
	})
}

func TestEscapeIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t, "s")
		once := printer.Escape(s)
		if twice := printer.Escape(once); twice != once {
			t.Fatalf("%q, then %q", once, twice)
		}
	})
	for _, plain := range []string{"", "reviews", "Grüße, 東京 – “ok” ✓ → é", "ไม้ทั้ง", "हिन्दी"} {
		if got := printer.Escape(plain); got != plain {
			t.Errorf("%q became %q", plain, got)
		}
	}
	if got := printer.Escape("a\x1b\n\U000e0041\xff"); got != `a\u001b\n\U000e0041\xff` {
		t.Errorf("got %s", got)
	}
}

func TestLinesKeepTheirStructure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t, "s")
		out := printer.Lines(s)
		if why := printertest.Acts(out, nil); why != "" {
			t.Fatalf("%q: %s", out, why)
		}
		if strings.Count(out, "\n") != strings.Count(s, "\n") {
			t.Fatalf("%q has other lines than %q", out, s)
		}
	})
}

// Whatever a library writes, in whatever pieces: nothing gets through that acts,
// and JSON stays the same document.
func TestTheWriterLetsNothingActThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t, "s")
		raw, err := json.Marshal(map[string]string{"s": s})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w := printer.NewWriter(&b, false)
		for rest := raw; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		for _, r := range b.String() {
			if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
				t.Fatalf("%q holds %U", b.String(), r)
			}
		}
		var before, after map[string]string
		if err := json.Unmarshal(raw, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b.Bytes(), &after); err != nil {
			t.Fatalf("%v: %s", err, b.Bytes())
		}
		if before["s"] != after["s"] {
			t.Fatalf("%q became %q", before["s"], after["s"])
		}
	})
}

func TestOnlyColoursPassTheWriter(t *testing.T) {
	const text = "\x1b[1;31mred\x1b[0m \x1b[2J\r\x9b"
	for color, want := range map[bool]string{
		true:  "\x1b[1;31mred\x1b[0m \\u001b[2J\\u000d\\x9b",
		false: `\u001b[1;31mred\u001b[0m \u001b[2J\u000d\x9b`,
	} {
		var b bytes.Buffer
		if _, err := printer.NewWriter(&b, color).Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("colour %v: %q, not %q", color, b.String(), want)
		}
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestTheWriterRemembersThatOutputWasLost(t *testing.T) {
	w := printer.NewWriter(closed{}, false)
	_ = printer.Fprintf(w, "x")
	if !errors.Is(w.Err(), io.ErrClosedPipe) {
		t.Errorf("Err is %v", w.Err())
	}
}
