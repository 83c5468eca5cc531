package space

import (
	"slices"
	"strings"

	"meshc.dev/meshc/internal/hop"
)

// Image is what a request is made into on its way: whatever is behind sees the image. The
// zero Image leaves a request as it is.
type Image struct {
	// Path moves it, nil leaves it.
	Path *Move `json:"path,omitempty"`
	// Host is the new one, in lower case and without a port; "" leaves it.
	Host string `json:"host,omitempty"`
	// Headers are edits, each of another header.
	Headers []Edit `json:"headers,omitempty"`
}

// Opened is the image in which nobody knows the headers of those names either.
func (m Image) Opened(names ...string) Image {
	headers := slices.Clone(m.Headers)
	for _, n := range names {
		headers = append(headers, Edit{Name: n, Open: true})
	}
	m.Headers = headers
	return m
}

// Edit is what becomes of one header: its lines stay unless Clear, and Lines follow them.
type Edit struct {
	// Name is in lower case.
	Name  string   `json:"name"`
	Clear bool     `json:"clear,omitempty"`
	Lines []string `json:"lines,omitempty"`
	// Whole says that it is cleared in all its spellings, as what is open is.
	Whole bool `json:"whole,omitempty"`
	// Open says that nothing is known of the lines before the request comes; then there is nothing else.
	Open bool `json:"open,omitempty"`
}

// IsZero reports whether the image of every request is the request.
func (m Image) IsZero() bool { return m.Path == nil && m.Host == "" && len(m.Headers) == 0 }

// Equal reports whether both say the same.
func (m Image) Equal(other Image) bool {
	if (m.Path == nil) != (other.Path == nil) || m.Path != nil && *m.Path != *other.Path {
		return false
	}
	same := func(a, b Edit) bool {
		return a.Name == b.Name && a.Clear == b.Clear && a.Open == b.Open && a.Whole == b.Whole && slices.Equal(a.Lines, b.Lines)
	}
	return m.Host == other.Host && slices.EqualFunc(m.Headers, other.Headers, same)
}

// And does as m and as other, which are about different things, but for a header of which one of them
// knows nothing: what the other does comes behind that.
func (m Image) And(other Image) Image {
	if other.Path != nil {
		m.Path = other.Path
	}
	if other.Host != "" {
		m.Host = other.Host
	}
	m.Headers = slices.Clone(m.Headers)
	for _, e := range other.Headers {
		i := slices.IndexFunc(m.Headers, func(o Edit) bool { return o.Name == e.Name && (o.Open || e.Open) })
		switch {
		case i < 0:
			m.Headers = append(m.Headers, e)
		case e.Clear:
			m.Headers[i] = e
		case !m.Headers[i].Clear:
			m.Headers[i] = Edit{Name: e.Name, Open: true}
		}
	}
	return m
}

// Of is the image of a request: as the next proxy of the mesh reads it, without headers of which
// nothing is known.
func (m Image) Of(q Request) Request {
	if m.Path != nil {
		q.Path = m.Path.Of(q.Path)
	}
	if m.Host != "" {
		q.Host = m.Host
	}
	for _, e := range m.Headers {
		var lines []string
		kept := make([]Header, 0, len(q.Headers))
		for _, h := range q.Headers {
			switch {
			case !e.about(h.Name):
				kept = append(kept, h)
			case !e.Clear && !e.Open:
				lines = append(lines, h.Value)
			}
		}
		for _, v := range HeaderLines(e.Name, slices.Concat(lines, e.Lines)) {
			kept = append(kept, Header{Name: e.Name, Value: v})
		}
		q.Headers = kept
	}
	return q
}

// Unclear is a test that cannot be said of a request before it is changed; the text is why.
type Unclear string

// Error is the reason.
func (e Unclear) Error() string { return string(e) }

// Before are tests that hold for a request exactly if when hold for its image; possible is
// false if they hold for none. It is about requests whose path the Move takes. The error is
// an Unclear.
func (m Image) Before(when []Test) (before []Test, possible bool, err error) {
	if m.IsZero() {
		return when, true, nil
	}
	for _, t := range when {
		b, is, err := m.before(t)
		switch {
		case err != nil:
			return nil, false, err
		case is == never:
			return nil, false, nil
		case is == maybe:
			before = append(before, b)
		}
	}
	return before, true, nil
}

// truth is what is known of a test before the request comes.
type truth int

const (
	maybe truth = iota
	always
	never
)

func (a truth) not() truth {
	switch a {
	case always:
		return never
	case never:
		return always
	default:
		return maybe
	}
}

func decided(holds bool) truth {
	if holds {
		return always
	}
	return never
}

// before takes one test back.
func (m Image) before(t Test) (Test, truth, error) {
	b, is, err := t, maybe, error(nil)
	if dim, name := t.Dim.Of(); dim.Header != nil {
		if i := slices.IndexFunc(m.Headers, func(e Edit) bool { return e.about(dim.Header(name)) }); i >= 0 {
			if e := m.Headers[i]; !e.Open && strings.HasPrefix(string(t.Dim), oncePrefix) && !e.Clear {
				b, is, err = e.beforeLines(t)
			} else {
				is, err = e.before(t)
			}
		}
	}
	switch {
	case t.Dim == HostDim && m.Host != "":
		is = decided(t.takes(m.Host))
	case t.Dim == PathDim && m.Path != nil:
		b.Any, is, err = m.Path.before(t.Any)
	}
	if t.Not {
		is = is.not()
	}
	return b, is, err
}

// about reports whether the edit is one of the header. Who writes one of which nobody knows what it says takes
// away what came in its other spellings, so that nobody knows whether these are there either.
func (e Edit) about(header string) bool {
	return e.Name == header || (e.Open || e.Whole) && hop.Spells(header, e.Name)
}

// takes reports whether a value is in one of t's patterns, whatever t.Not says.
func (t Test) takes(v string) bool {
	return len(t.Any) == 0 || slices.ContainsFunc(t.Any, func(p Pattern) bool { return p.Matches(v) })
}

// before says what is known of "some value is in one of t's patterns" behind the edit, where the
// values are in the header's lines. A header that is kept as one line is another value with
// what is added to it.
func (e Edit) before(t Test) (truth, error) {
	if e.Open {
		return maybe, Unclear("what " + e.Name + " says there is only known when the request has come")
	}
	var added Request
	for _, line := range HeaderLines(e.Name, e.Lines) {
		added.Headers = append(added.Headers, Header{Name: e.Name, Value: line})
	}
	dim, name := t.Dim.Of()
	values := dim.Values(added, name)
	switch takes := slices.ContainsFunc(values, t.takes); {
	case e.Clear:
		return decided(takes), nil
	case len(values) == 0:
		return maybe, nil
	case len(t.Any) == 0:
		return always, nil
	case Joined(e.Name):
		return maybe, Unclear("proxies keep " + e.Name + " as one line, to which something is added")
	case takes:
		return always, nil
	}
	return maybe, nil
}
