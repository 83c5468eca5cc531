package printer

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"sync"
	"unicode/utf8"
)

// Writer passes text and escapes whatever could act, but for line feeds, tabs and,
// if the stream shows colours, the sequences that set them. What it escapes is
// spelt as JSON does, so that a document stays the same document. It may be used
// by several goroutines.
type Writer struct {
	mu    sync.Mutex
	w     io.Writer
	color bool
	part  []byte // the beginning of a character whose rest comes with the next Write
	err   error
}

// NewWriter returns a Writer to w. With color, sequences that set colours pass.
func NewWriter(w io.Writer, color bool) *Writer { return &Writer{w: w, color: color} }

// Err is the first error of the stream: output that was lost must not look whole.
func (p *Writer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// setsColor is the only kind of control sequence that passes (ECMA-48 SGR).
//
//nolint:gochecknoglobals // a constant that Go cannot express
var setsColor = regexp.MustCompile(`^\x1b\[[0-9;]*m`)

// Write implements io.Writer.
func (p *Writer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, rest := harmless(append(p.part, b...), p.color, false)
	p.part = bytes.Clone(rest)
	if _, err := p.w.Write(out); err != nil {
		if p.err == nil {
			p.err = err
		}
		return 0, err
	}
	return len(b), nil
}

// JSON escapes in a JSON document, inside its strings, whatever could act on who
// shows it. The document stays the same.
func JSON(doc []byte) []byte {
	out, _ := harmless(doc, false, true)
	return out
}

// harmless escapes as JSON does. rest is the beginning of a character that has not
// ended; a text that is whole has none.
func harmless(b []byte, color, whole bool) (out, rest []byte) {
	out = make([]byte, 0, len(b))
	for len(b) > 0 && (whole || utf8.FullRune(b)) {
		if n := pass(b, color); n > 0 {
			out = append(out, b[:n]...)
			b = b[n:]
			continue
		}
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			out = fmt.Appendf(out, `\x%02x`, b[0])
		} else {
			out = append(out, spellJSON(r)...)
		}
		b = b[size:]
	}
	return out, b
}

// pass is how many bytes at the start of b pass as they are.
func pass(b []byte, color bool) int {
	if b[0] >= ' ' && b[0] <= '~' {
		return 1
	}
	r, size := utf8.DecodeRune(b)
	switch {
	case r == '\n' || r == '\t':
		return 1
	case r == utf8.RuneError && size == 1:
		return 0
	case !acts(r):
		return size
	case r == '\x1b' && color:
		return len(setsColor.Find(b))
	}
	return 0
}
