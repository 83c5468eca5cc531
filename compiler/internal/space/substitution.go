package space

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// maxProgram bounds the instructions and ranges of letters of an expression that every request
// may meet: RE2 takes time in proportion to text and program.
const maxProgram = 600

// Part is a piece of a substitution: text as it is, or what a group took.
type Part struct {
	Text string
	// Group is the group's number, 0 for all that the expression takes; -1 for text.
	Group int
}

// Parts cuts a substitution as RE2 reads it: a backslash stands before a group's digit or
// before a backslash.
func Parts(substitution string) ([]Part, error) {
	var out []Part
	text := ""
	for rest := substitution; rest != ""; {
		before, after, found := strings.Cut(rest, `\`)
		text += before
		switch {
		case !found:
			rest = ""
			continue
		case after == "":
			return nil, errors.New("it ends in a backslash")
		case after[0] == '\\':
			text += `\`
		case after[0] < '0' || after[0] > '9':
			return nil, fmt.Errorf("behind a backslash stands %q, which is no group's digit", after[:1])
		default:
			if text != "" {
				out, text = append(out, Part{text, -1}), ""
			}
			out = append(out, Part{"", int(after[0] - '0')})
		}
		rest = after[1:]
	}
	if text != "" {
		out = append(out, Part{text, -1})
	}
	return out, nil
}

// Program compiles an expression for whole values. The error says why it cannot be asked of
// requests: it is none, too large, or of a kind that cannot be compared.
func Program(expression string) (*syntax.Prog, error) {
	if _, err := syntax.Parse(expression, syntax.Perl); err != nil { // alone: "a)(b" is none
		var said *syntax.Error
		if errors.As(err, &said) {
			return nil, fmt.Errorf("%s: %q", said.Code, said.Expr)
		}
		return nil, err
	}
	re, err := syntax.Parse(whole(expression), syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, err
	}
	size := 0
	for _, in := range prog.Inst {
		if in.Op == syntax.InstEmptyWidth && syntax.EmptyOp(in.Arg)&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0 {
			return nil, errors.New(`\b, \B and (?m) look beside a letter, and are not proved for all requests`)
		}
		size += 1 + len(in.Rune)/2
	}
	if size > maxProgram {
		return nil, fmt.Errorf("its program has %d steps, and %d are allowed", size, maxProgram)
	}
	return prog, nil
}

// whole is an expression that takes what another one takes as a whole.
func whole(expression string) string { return `\A(?:` + expression + `)\z` }

// Groups is how many groups an expression has, 0 for one that is none.
func Groups(expression string) int {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return 0
	}
	return re.MaxCap()
}

// substituted is Of of Substituted. A group that took nothing is empty.
func (m Move) substituted(path string) string {
	re, err := regexp.Compile(whole(m.From))
	if err != nil {
		return path
	}
	at := re.FindStringSubmatchIndex(path)
	parts, err := Parts(m.To)
	if at == nil || err != nil {
		return path
	}
	var b strings.Builder
	for _, p := range parts {
		switch i := 2 * p.Group; {
		case p.Group < 0:
			b.WriteString(p.Text)
		case i < len(at) && at[i] >= 0:
			b.WriteString(path[at[i]:at[i+1]])
		}
	}
	return b.String()
}

// behind is what a Moved pattern's text says.
type behind struct {
	Move Move    `json:"move"`
	Is   Pattern `json:"is"`
}

// MovedPattern takes the paths of which m makes one that p takes.
func MovedPattern(m Move, p Pattern) Pattern {
	text, err := json.Marshal(behind{m, p})
	if err != nil {
		panic("space: " + err.Error()) // texts alone
	}
	return Pattern{Moved, string(text)}
}

// Behind is what MovedPattern made p of.
func (p Pattern) Behind() (Move, Pattern) {
	var b behind
	if err := json.Unmarshal([]byte(p.Text), &b); err != nil {
		return Move{}, Pattern{}
	}
	return b.Move, b.Is
}

// everything reports whether every path that a Move makes is one of the pattern's.
func (p Pattern) everything() bool {
	every := []Pattern{{Segment, root}, {Prefix, root}, {Prefix, ""}, {Spelt, root + "*"}}
	return slices.Contains(every, p)
}
