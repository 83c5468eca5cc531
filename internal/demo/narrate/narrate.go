// Package narrate prints a story while it happens: titles, commands with their output
// and exit codes, and what was measured. In: words. Out: plain lines; colour only marks
// what the words say anyway.
package narrate

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Narrator prints; it is safe for concurrent use.
type Narrator struct {
	mu    sync.Mutex
	w     io.Writer
	color bool
}

// New prints to w, with colour if that is wanted.
func New(w io.Writer, color bool) *Narrator { return &Narrator{w: w, color: color} }

const (
	bold  = "1"
	dim   = "2"
	green = "32"
	red   = "31"
)

func (n *Narrator) print(style, indent, text string) {
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

// Say prints a line at the margin.
func (n *Narrator) Say(format string, args ...any) { n.print("0", "", fmt.Sprintf(format, args...)) }

// Title begins a step.
func (n *Narrator) Title(i, of int, title string) {
	n.print(bold, "", fmt.Sprintf("\n%d/%d  %s", i, of, title))
}

// Tell explains what comes next.
func (n *Narrator) Tell(format string, args ...any) {
	n.print("0", "     ", fmt.Sprintf(format, args...))
}

// Command prints a command as a user would type it.
func (n *Narrator) Command(line string) { n.print(bold, "     ", "$ "+line) }

// Output shows what a command printed, at most max lines (0 = all).
func (n *Narrator) Output(text string, max int) {
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

// Exit prints a command's exit code and how long it took.
func (n *Narrator) Exit(code int, took time.Duration) {
	n.print(dim, "     ", fmt.Sprintf("exit code %d, %v", code, took.Round(time.Millisecond)))
}

// Measured prints what was measured.
func (n *Narrator) Measured(text string) { n.print(green, "     measured: ", text) }

// Failed prints why a step did not hold.
func (n *Narrator) Failed(err error) { n.print(red, "     ", "FAILED: "+err.Error()) }

// Logs prints the ends of logs, by name.
func (n *Narrator) Logs(texts map[string]string) {
	for name, text := range texts {
		n.print(dim, "     ", "end of "+name+":")
		n.Output(text, 0)
	}
}
