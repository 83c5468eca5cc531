package space

import "strings"

// Dimension is all there is to know of a dimension of requests, or of a family of them: how
// a request has its values, which there can be, and how a test of it is put into words. The
// catalog is Dimensions; nobody else tells one from another, except where a dimension is the
// subject: access is about identities, a Move about paths.
type Dimension struct {
	// Name is the dimension's. That of a family ends in a colon, behind which each of its
	// dimensions has a name of its own.
	Name string
	// Lines says that a request has any number of values; else it has one.
	Lines bool
	// Door says that a request has its value from the door by which it came: who asks about
	// one door is told nothing of it.
	Door bool
	// Late says that a request has its value only once the first proxy has looked at its tokens: a route that tests it
	// is chosen by then, in place of another one.
	Late bool
	// Values are a request's.
	Values func(q Request, name string) []string
	// With is the request with that value, which is added to those that it has where there
	// may be more.
	With func(q Request, name, value string) Request
	// Universe is a regular expression (RE2) for the values that there can be, as far as
	// patterns tell them apart.
	Universe func(patterns []Pattern) string
	// Likely are the values that read best in an example, those first.
	Likely []string
	// Word is how a route's match calls conditions on it, in mesh.json as well; "" if there are none.
	Word string
	// Single says that such a condition has one value, not a list of them. It is about a
	// dimension that is alone: in a family a condition is a name and what its value is like.
	Single bool
	// Patterned says that conditions on a dimension that is alone take patterns of its values, not
	// a list of them.
	Patterned bool
	// Pattern makes one of what is written of a value, and Written undoes it; nil where both
	// are the same. It is about a family, as Present is.
	Pattern func(written Pattern) Pattern
	Written func(Pattern) Pattern
	// Header is the header in whose lines the values are, nil if they are in none that could be
	// edited on the way. Line is, for a part of such a line, which lines have a value that one of
	// the patterns takes, or any without patterns; nil where the whole line is the value.
	Header func(name string) string
	Line   func(name string, any []Pattern) Pattern
	// Fixes reports whether a question with that request says what value there is; else that is open.
	Fixes func(q Request, name string) bool
	// Place is where a sentence about requests has the words; Words are "" for a test that says nothing.
	Place Place
	Words func(name string, t Test) string
}

// Place is a place in a sentence about requests.
type Place int

// The places, in their order.
const (
	Elsewhere Place = iota // it is told who asks, or where
	Verb
	Object
	Addition
)

// Dimensions are all, in the order in which conditions on them make a route more specific:
// of two routes whose paths are alike the one with more of the first kind is tried first.
func Dimensions() []Dimension { return dimensions }

//nolint:gochecknoglobals // a constant that Go cannot express
var dimensions = []Dimension{path, method, host, identity, caller, header, cookie, query, scheme, user, claim, once, parameters, source, client, hopped}

// Of is what there is to know of d, and its name within a family, "" for one that is alone.
// It panics if d is no dimension.
func (d Dim) Of() (Dimension, string) {
	x := dimensions[d.Index()]
	return x, strings.TrimPrefix(string(d), x.Name)
}

// Index is the dimension's place in Dimensions.
func (d Dim) Index() int {
	for i, x := range dimensions {
		if x.has(d) {
			return i
		}
	}
	panic("space: " + string(d) + " is no dimension")
}

func (x Dimension) has(d Dim) bool {
	name, ok := strings.CutPrefix(string(d), x.Name)
	return ok && (name == "" || x.IsFamily())
}

// IsFamily reports whether it is a family, each of whose dimensions has a name of its own.
func (x Dimension) IsFamily() bool { return strings.HasSuffix(x.Name, familyEnd) }

// Present is how conditions of a family write that a value is there, whatever it is. No pattern is
// of that kind.
const Present = "present"

// Write is a pattern of one of the family's dimensions as conditions write it; nil stands for
// a value that is there.
func (x Dimension) Write(p *Pattern) Pattern {
	switch {
	case p == nil:
		return Pattern{Kind: Present}
	case x.Written == nil:
		return *p
	}
	return x.Written(*p)
}

// Test is the test of one of the family's dimensions that is written so.
func (x Dimension) Test(name string, not bool, written ...Pattern) Test {
	t := Test{Dim: Dim(x.Name + name), Not: not}
	for _, w := range written {
		switch {
		case x.Pattern != nil:
			t.Any = append(t.Any, x.Pattern(w))
		case w.Kind != Present:
			t.Any = append(t.Any, w)
		}
	}
	return t
}

// OnLines is t as a test of the lines of the header that its values are in; ok is false if they
// are in none, or are whole lines.
func (t Test) OnLines() (lines Test, ok bool) {
	dim, name := t.Dim.Of()
	if dim.Line == nil {
		return Test{}, false
	}
	return Test{Dim: HeaderDim(dim.Header(name)), Any: []Pattern{dim.Line(name, t.Any)}, Not: t.Not}, true
}

// Values is the test that takes these values of d.
func Values(d Dim, values ...string) Test {
	t := Test{Dim: d}
	for _, v := range values {
		t.Any = append(t.Any, Pattern{Kind: Exact, Text: v})
	}
	return t
}

// familyEnd is what the name of a family ends in.
const familyEnd = ":"

// one is a value that every request has.
func one(v string) []string { return []string{v} }

// fixed is the universe of a dimension, whatever patterns there are.
func fixed(universe string) func([]Pattern) string {
	return func([]Pattern) string { return universe }
}

// not puts words of a test's patterns around.
func not(t Test, words string) string {
	if t.Not {
		return "not " + words
	}
	return words
}

func texts(t Test, word func(Pattern) string) string {
	parts := make([]string, 0, len(t.Any))
	for _, p := range t.Any {
		parts = append(parts, word(p))
	}
	return not(t, strings.Join(parts, ", "))
}

func text(p Pattern) string { return p.Text }
