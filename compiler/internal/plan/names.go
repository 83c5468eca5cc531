package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// names compares the further names by which callers ask for services.
func (c *comparison) names() error {
	if c.after.Capture != model.Transparent { // each call has a socket of its own
		return nil
	}
	for _, s := range c.after.Services {
		if was := c.before.Service(s.ID); was != nil {
			if err := c.namesOf(was, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// namesOf compares those of one service. One more is widening if somebody of the mesh gets in by that name, as soon as
// he calls it: his proxy had no way for it, and a grant may have waited for the name.
func (c *comparison) namesOf(before, after *model.Service) error {
	if gone := without(before.Hosts, after.Hosts); len(gone) > 0 {
		c.note(after, Narrowing, KindAddress, Change{What: NameGone, Before: gone})
	}
	fresh := without(after.Hosts, before.Hosts)
	if len(fresh) == 0 {
		return nil
	}
	class := Neutral
	w, err := c.enteredBy(after, fresh)
	var unsupported *prove.UnsupportedError
	switch {
	case errors.Is(err, prove.ErrBudget) || errors.As(err, &unsupported):
		class = Widening // nobody knows that it is none
	case err != nil:
		return fmt.Errorf("comparing names of %q: %w", after.ID, err)
	case w != nil:
		class = Widening
	}
	c.note(after, class, KindAddress, Change{What: NameNew, After: fresh})
	c.found[len(c.found)-1].witness = w
	return nil
}

// enteredBy is a request for one of these hosts that s lets in, of one who calls it if there is such; nil if there is none.
func (c *comparison) enteredBy(s *model.Service, hosts []string) (*Witness, error) {
	others := space.HostTest(hosts, space.Named)
	ours := space.Test{Dim: space.IdentityDim, Any: []space.Pattern{{Kind: space.Prefix, Text: "spiffe://" + c.after.TrustDomain + "/"}}, Not: true}
	others.Not = true
	nowhere := space.List{{Then: space.NotRouted()}}
	without := space.List{{When: []space.Test{others}, Then: space.NotRouted()}, {When: []space.Test{ours}, Then: space.NotRouted()}}
	var out *Witness
	for _, p := range s.Ports {
		if !p.Protocol.IsHTTP() {
			continue
		}
		d := eval.ServiceScope(c.after, s, p, c.meaning)
		lim := c.lim
		lim.Identities = slices.Concat(c.callersOf[destination{s.ID, p.Name}], c.someone, c.lim.Identities)
		changes, err := prove.CompareLists(d.Scope, nowhere, slices.Concat(without, d.Effective), lim)
		if err != nil {
			return nil, err //nolint:wrapcheck // who asks says of what
		}
		for _, ch := range changes {
			then := eval.Decide(d, ch.Witness).Outcome
			if then.Verdict != space.Forward {
				continue
			}
			w := &Witness{Scope: d.Scope, Request: ch.Witness, Caller: newSpeaker(c.before, c.after).caller(ch.Witness.From, ""), Before: space.NotRouted(), After: then}
			if w.Uncalled = !callsAs(c.after, ch.Witness.From, d.Scope); !w.Uncalled {
				return w, nil
			}
			out = cmp.Or(out, w)
		}
	}
	return out, nil
}
