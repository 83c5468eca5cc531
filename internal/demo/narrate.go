package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// narrator prints plain lines; colour only marks what the words say anyway.
type narrator struct {
	mu      sync.Mutex
	w       io.Writer
	color   bool
	shorten *strings.Replacer // long paths → short names; nil = as they are
}

const (
	bold  = "1"
	dim   = "2"
	green = "32"
	red   = "31"
)

func (n *narrator) print(style, indent, text string) {
	if n.shorten != nil {
		text = n.shorten.Replace(text)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		line = strings.TrimRight(line, "\n")
		if n.color && line != "" {
			line = "\x1b[" + style + "m" + line + "\x1b[0m"
		}
		// A reader that has gone (a closed pipe) must not stop the cleaning up.
		_, _ = fmt.Fprintln(n.w, strings.TrimRight(indent+line, " "))
	}
}

func (n *narrator) say(format string, args ...any) { n.print("0", "", fmt.Sprintf(format, args...)) }

func (n *narrator) title(i, of int, title string) {
	n.print(bold, "", fmt.Sprintf("\n%d/%d  %s", i, of, title))
}

// tell explains what comes next.
func (n *narrator) tell(format string, args ...any) {
	n.print("0", "     ", fmt.Sprintf(format, args...))
}

func (n *narrator) command(line string) { n.print(bold, "     ", "$ "+line) }

// output shows what a command printed, at most max lines (0 = all).
func (n *narrator) output(text string, max int) {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return
	}
	lines := strings.Split(text, "\n")
	if max > 0 && len(lines) > max {
		lines = append(lines[:max:max], fmt.Sprintf("… (%d more lines)", len(lines)-max))
	}
	n.print(dim, "     | ", strings.Join(lines, "\n"))
}

func (n *narrator) exit(code int, took time.Duration) {
	n.print(dim, "     ", fmt.Sprintf("exit code %d, %v", code, took.Round(time.Millisecond)))
}

func (n *narrator) measured(text string) { n.print(green, "     measured: ", text) }

func (n *narrator) failed(err error) { n.print(red, "     ", "FAILED: "+err.Error()) }

func (n *narrator) logs(texts map[string]string) {
	for name, text := range texts {
		n.print(dim, "     ", "end of "+name+":")
		n.output(text, 0)
	}
}
