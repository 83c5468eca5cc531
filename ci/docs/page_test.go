package docs_test

import (
	"fmt"
	"regexp"
	"strings"
)

// page is what the reader of a page types and sees.
type page struct {
	steps []step
	// ports are those that are replaced by free ones.
	ports []string
	// unrun are the reasons of blocks that are not run.
	unrun []string
	// after is the page whose reader this one goes on with; "" begins with nothing.
	after string
}

// step is a block that is run or written, or one command of a console.
type step struct {
	// page is the name of the page in whose place it stands, of another one than is run.
	page string
	// line is where it stands in the page, from 1.
	line int
	// file is what text is written to; "" for commands.
	file string
	text string
	// shows is that want is compared with what is printed.
	shows bool
	want  []string
}

var (
	notRun  = regexp.MustCompile(`^<!-- not run: (.*\S) -->$`)
	ports   = regexp.MustCompile(`^<!-- ports: ([0-9 ]+) -->$`)
	named   = regexp.MustCompile(`^(?://|#|--) ([\w./-]+\.\w+|[\w./-]*/[\w.-]+)$`)
	fence   = regexp.MustCompile("^(\\s*)```(.*)$")
	after   = regexp.MustCompile(`^<!-- after: ([\w-]+\.md) -->$`)
	comment = regexp.MustCompile(`^<!-- (not run|ports|after)\b`)
)

// at says where a step stands.
func (s step) at() string {
	if s.page != "" {
		return fmt.Sprintf("%s, line %d", s.page, s.line)
	}
	return fmt.Sprintf("line %d", s.line)
}

// read takes a page apart. What it cannot make sense of is an error, so that nothing that
// looks like a command is passed over in silence.
func read(text string) (page, error) {
	var p page
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if m := ports.FindStringSubmatch(lines[i]); m != nil {
			p.ports = append(p.ports, strings.Fields(m[1])...)
			continue
		}
		if m := after.FindStringSubmatch(lines[i]); m != nil {
			if len(p.steps) > 0 || p.after != "" {
				return p, fmt.Errorf("line %d: what a page goes on with is said once, before its first block", i+1)
			}
			p.after = m[1]
			continue
		}
		why := ""
		if m := notRun.FindStringSubmatch(lines[i]); m != nil {
			if i++; i == len(lines) || !fence.MatchString(lines[i]) {
				return p, fmt.Errorf("line %d: no block stands behind %q", i, m[0])
			}
			why = m[1]
		} else if comment.MatchString(lines[i]) {
			return p, fmt.Errorf("line %d: %q says nothing that is understood", i+1, lines[i])
		}
		m := fence.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		begin := i + 1
		var block []string
		for i++; ; i++ {
			if i == len(lines) {
				return p, fmt.Errorf("line %d: the block does not end", begin)
			}
			if strings.TrimSpace(lines[i]) == "```" {
				break
			}
			block = append(block, strings.TrimPrefix(lines[i], m[1]))
		}
		if why != "" {
			p.unrun = append(p.unrun, fmt.Sprintf("line %d: %s", begin, why))
			continue
		}
		steps, err := stepsOf(m[2], begin, block)
		if err != nil {
			return p, err
		}
		p.steps = append(p.steps, steps...)
	}
	return p, nil
}

// stepsOf makes steps of a block that begins at a line.
func stepsOf(kind string, line int, block []string) ([]step, error) {
	switch {
	case kind == "sh":
		return []step{{line: line, text: strings.Join(block, "\n")}}, nil
	case kind == "console":
		return console(line, block)
	case len(block) > 0 && named.MatchString(block[0]):
		return []step{{line: line, file: named.FindStringSubmatch(block[0])[1], text: strings.Join(block, "\n") + "\n"}}, nil
	}
	return nil, fmt.Errorf("line %d: a block %q that is neither run nor written: begin it with a comment that is its path, or say <!-- not run: why -->", line, kind)
}

// console takes commands and what they print apart. A command goes on in the next line
// behind a backslash.
func console(line int, block []string) (steps []step, err error) {
	for i := 0; i < len(block); i++ {
		command, ok := strings.CutPrefix(block[i], "$ ")
		if !ok {
			if len(steps) == 0 {
				return nil, fmt.Errorf("line %d: what is printed stands before any command", line+i+1)
			}
			last := &steps[len(steps)-1]
			last.want = append(last.want, block[i])
			continue
		}
		at := line + i + 1
		for strings.HasSuffix(command, `\`) && i+1 < len(block) {
			i++
			command += "\n" + block[i]
		}
		steps = append(steps, step{line: at, text: command, shows: true})
	}
	return steps, nil
}

// fits reports whether what was printed is what the page shows.
func fits(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "…" {
		for skip := range len(got) + 1 {
			if fits(want[1:], got[skip:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && fitsLine(want[0], got[0]) && fits(want[1:], got[1:])
}

func fitsLine(want, got string) bool {
	parts := strings.Split(strings.TrimRight(want, " "), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(strings.TrimRight(got, " "))
}
