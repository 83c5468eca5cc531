package prove

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/space"
)

// preferences are the values that a witness should have where they fit, per
// dimension, as atoms with their text. Computed once per problem.
type preferences struct {
	p      *problem
	values [][]preferred
}

type preferred struct {
	atom int
	text string
}

// maxPreferredIdentities bounds how many identities are looked at: the first
// ones are enough for a readable witness.
const maxPreferredIdentities = 64

func (p *problem) preferences() *preferences {
	out := &preferences{p: p, values: make([][]preferred, len(p.dims))}
	for i, d := range p.dims {
		dim, _ := d.Of()
		texts := dim.Likely
		if d == space.IdentityDim {
			texts = p.limits.Identities[:min(len(p.limits.Identities), maxPreferredIdentities)]
		}
		for _, t := range texts {
			if a := p.atoms[i].atomOf(t); a >= 0 {
				out.values[i] = append(out.values[i], preferred{a, t})
			}
		}
	}
	return out
}

// request is the answer of a search as a request.
func (pr *preferences) request(s *search) space.Request {
	q := space.Request{Method: "GET", Path: "/"}
	if len(pr.p.limits.Identities) > 0 {
		q.From = pr.p.limits.Identities[0]
	}
	for i, d := range pr.p.dims {
		v := pr.pick(i, s.dims[i])
		dim, name := d.Of()
		q = dim.With(q, name, v)
	}
	for h, d := range pr.p.lined {
		dim, name := d.Of()
		for _, v := range s.lines(h) {
			q = dim.With(q, name, v)
		}
	}
	return q
}

func (pr *preferences) pick(dim int, in bitset) string {
	for _, v := range pr.values[dim] {
		if in == nil || in.has(v.atom) {
			return v.text
		}
	}
	a := pr.p.atoms[dim]
	first := 0
	if in != nil {
		first = in.first()
	}
	// An identity in the witness says more than none, where both will do.
	if pr.p.dims[dim] == space.IdentityDim && a.witness[first] == "" {
		for i, w := range a.witness {
			if w != "" && (in == nil || in.has(i)) {
				return w
			}
		}
	}
	return a.witness[first]
}

// lines are the lines of a header that make its true tests true and no false
// one: one line where one suffices.
func (s *search) lines(header int) []string {
	h := s.p.header[header]
	covered := s.covered(header)
	var open []bitset
	common := fullBits(len(h.witness)).minus(covered)
	for _, t := range s.trail {
		if pr := &s.p.preds[t]; pr.header == header && s.value[t] > 0 {
			open = append(open, pr.in.minus(covered))
			common = common.and(pr.in)
		}
	}
	if len(open) == 0 {
		return nil
	}
	if !common.empty() {
		open = []bitset{common}
	}
	var out []string
	for _, in := range open {
		if line := h.readable(in); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// readable is a value of one of these atoms, not the empty one if another fits.
func (a *atoms) readable(in bitset) string {
	if x := a.atomOf("x"); x >= 0 && in.has(x) {
		return "x"
	}
	first := a.witness[in.first()]
	if first != "" {
		return first
	}
	in.each(func(i int) bool {
		first = a.witness[i]
		return first == ""
	})
	return first
}
