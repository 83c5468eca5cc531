package sandbox

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// maxWords bounds what is kept of a child's stderr: a Go crash prints every
// goroutine, and its reason comes first.
const (
	maxWords = 4 << 10
	maxLine  = 8 << 10
)

// progress reads a child's stderr. It is written to by one goroutine and read
// after the child has ended.
type progress struct {
	partial []byte
	skip    bool // the rest of a line that was too long
	open    map[string]int
	errText string
	words   []byte
}

// Write takes the next bytes of stderr; it never fails, so that a talkative
// child is not stopped by its chatter.
func (p *progress) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !p.skip {
			p.partial = append(p.partial, line[:min(len(line), maxLine-len(p.partial))]...)
			p.skip = len(p.partial) == maxLine
		}
		if b = rest; !whole {
			break
		}
		p.line(string(p.partial))
		p.partial, p.skip = p.partial[:0], false
	}
	return n, nil
}

func (p *progress) line(s string) {
	switch {
	case strings.HasPrefix(s, lineBegin):
		p.open[unquote(s[len(lineBegin):])]++
	case strings.HasPrefix(s, lineEnd):
		name := unquote(s[len(lineEnd):])
		if p.open[name]--; p.open[name] <= 0 {
			delete(p.open, name)
		}
	case strings.HasPrefix(s, lineError):
		p.errText = unquote(s[len(lineError):])
	case len(p.words) < maxWords:
		p.words = append(append(p.words, s[:min(len(s), maxWords-len(p.words))]...), '\n')
	}
}

func unquote(s string) string {
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return s
}

// subjects lists what was begun and not ended, sorted.
func (p *progress) subjects() []string {
	out := make([]string, 0, len(p.open))
	for s := range p.open {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// outOfMemory recognises the last words of a Go program that got no memory.
func (p *progress) outOfMemory() bool {
	w := string(p.words)
	for _, sign := range []string{"out of memory", "cannot allocate memory", "failed to create new OS thread", "pthread_create failed", "runtime: cannot map pages", "failed to reserve"} {
		if strings.Contains(w, sign) {
			return true
		}
	}
	return false
}

// runtimeCrash recognises an end inside Go's runtime, as opposed to a panic. The
// garbage collector may die so, without another word, if a mapping is refused.
func (p *progress) runtimeCrash() bool {
	w := string(p.words)
	return strings.HasPrefix(w, "SIGSEGV") || strings.HasPrefix(w, "fatal error")
}

func (p *progress) refusal() string { return p.errText }

// lastWords is the first line that the child said of its end.
func (p *progress) lastWords() string {
	first, _, _ := strings.Cut(string(p.words), "\n")
	if first == "" {
		return "it said nothing"
	}
	return first
}
