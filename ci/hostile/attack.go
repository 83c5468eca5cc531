package hostile

import (
	"fmt"
	"strings"
	"time"
)

// End is what a client does after its last byte.
type End string

// The ends.
const (
	Answered  End = ""          // reads until there is an answer, then closes
	HungUp    End = "HungUp"    // resets the connection
	HalfShut  End = "HalfShut"  // closes its side, then reads
	Forgotten End = "Forgotten" // neither reads nor closes
)

// Attack is what one hostile client does.
type Attack struct {
	// Part is the part of a request, or of a connection, that is unusual.
	Part string
	// Sends are written one after the other, with Pause between two of them and
	// before the connection is reset or forgotten.
	Sends [][]byte
	Pause time.Duration
	// Times is on how many connections, at most fifty at once; 0 is one.
	Times int
	End   End
}

// Bytes are all bytes of one connection.
func (a Attack) Bytes() []byte {
	var out []byte
	for _, s := range a.Sends {
		out = append(out, s...)
	}
	return out
}

// Go is the attack as Go source.
func (a Attack) Go() string {
	var b strings.Builder
	fmt.Fprintf(&b, "hostile.Attack{Part: %q, Sends: [][]byte{", a.Part)
	for i, s := range a.Sends {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "[]byte(%s)", goString(s))
	}
	b.WriteString("}")
	if a.Pause > 0 {
		fmt.Fprintf(&b, ", Pause: %d", a.Pause)
	}
	if a.Times > 1 {
		fmt.Fprintf(&b, ", Times: %d", a.Times)
	}
	if a.End != Answered {
		fmt.Fprintf(&b, ", End: hostile.%s", a.End)
	}
	return b.String() + "}"
}

// Shell is one connection of the attack as a command for bash with nc.
func (a Attack) Shell(addr string) string {
	var b strings.Builder
	for i, s := range a.Sends {
		if i > 0 {
			fmt.Fprintf(&b, "sleep %g; ", a.Pause.Seconds())
		}
		for _, r := range runs(s) {
			if r.times == 1 {
				fmt.Fprintf(&b, "printf -- '%s'; ", shellEscaped(r.text))
			} else {
				fmt.Fprintf(&b, "printf -- '%s%%.0s' $(seq %d); ", shellEscaped(r.text), r.times)
			}
		}
	}
	if a.End != HungUp {
		b.WriteString("sleep 1")
	}
	host, port, _ := strings.Cut(addr, ":")
	return fmt.Sprintf("(%s) | nc %s %s", strings.TrimSuffix(b.String(), "; "), host, port)
}

// run is a text that stands several times in a row.
type run struct {
	text  []byte
	times int
}

// shortRun is how often a byte is repeated before it is worth saying so.
const shortRun = 48

func runs(b []byte) []run {
	var out []run
	start := 0
	for i := 0; i < len(b); {
		end := i
		for end < len(b) && b[end] == b[i] {
			end++
		}
		if end-i > shortRun {
			if start < i {
				out = append(out, run{b[start:i], 1})
			}
			out = append(out, run{b[i : i+1], end - i})
			start = end
		}
		i = end
	}
	if start < len(b) {
		out = append(out, run{b[start:], 1})
	}
	return out
}

func goString(b []byte) string {
	var parts []string
	for _, r := range runs(b) {
		if r.times == 1 {
			parts = append(parts, fmt.Sprintf("%q", r.text))
		} else {
			parts = append(parts, fmt.Sprintf("strings.Repeat(%q, %d)", r.text, r.times))
		}
	}
	if len(parts) == 0 {
		return `""`
	}
	return strings.Join(parts, " + ")
}

func shellEscaped(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		switch {
		case c == '%':
			out.WriteString("%%")
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\\' || c == '\'' || c < ' ' || c > '~':
			fmt.Fprintf(&out, `\%03o`, c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}
