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
	mu   sync.Mutex
	w    io.Writer
	text stream
	part []byte // the beginning of a character whose rest comes with the next Write
	err  error
}

// NewWriter returns a Writer to w. With color, sequences that set colours pass.
func NewWriter(w io.Writer, color bool) *Writer { return &Writer{w: w, text: stream{color: color}} }

// Err is the first error of the stream: output that was lost must not look whole.
func (p *Writer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Clear empties the screen of a terminal that shows colours, and what has scrolled off it
// (ECMA-48 CUP and ED, and xterm's ED 3); it does nothing elsewhere.
func (p *Writer) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text.color && p.err == nil {
		_, p.err = io.WriteString(p.w, "\x1b[H\x1b[2J\x1b[3J")
	}
}

// Write implements io.Writer.
func (p *Writer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, rest := p.text.harmless(append(p.part, b...), false)
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
	out, _ := new(stream).harmless(doc, true)
	return out
}

// stream is text of which no byte is known to be ours.
type stream struct {
	color bool
	marks int // combining marks in a row, so far
}

// harmless escapes as JSON does. rest is the beginning of a character that has not
// ended; a text that is whole has none.
func (s *stream) harmless(b []byte, whole bool) (out, rest []byte) {
	out = make([]byte, 0, len(b))
	for len(b) > 0 && (whole || utf8.FullRune(b)) {
		if command(b) {
			out = append(out, `#\u0023`...)
			b, s.marks = b[2:], 0
			continue
		}
		r, size := utf8.DecodeRune(b)
		s.marks = count(s.marks, r)
		switch n := s.pass(b, r, size); {
		case n > 0:
			out, size = append(out, b[:n]...), n
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, b[0])
		default:
			out = append(out, spellJSON(r)...)
		}
		b = b[size:]
	}
	return out, b
}

// command reports whether a CI runner would read b as a command wherever it stands.
func command(b []byte) bool {
	if len(b) < len("##[") || b[0] != '#' {
		return false
	}
	for _, c := range commands() {
		if bytes.HasPrefix(b, []byte(c)) {
			return true
		}
	}
	return false
}

// setsColor is the only kind of control sequence that passes (ECMA-48 SGR).
var setsColor = regexp.MustCompile(`^\x1b\[[0-9;]*m`)

// pass is how many bytes of b pass as they are; r is the first character.
func (s *stream) pass(b []byte, r rune, size int) int {
	switch {
	case r == '\n' || r == '\t':
		return 1
	case r == utf8.RuneError && size == 1 || s.marks > maxMarks:
		return 0
	case !acts(r):
		return size
	case r == '\x1b' && s.color:
		return len(setsColor.Find(b))
	}
	return 0
}
