package eval

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// way is how far requests have come: which are meant, who decided, and what was done
// to them so far. A way is never changed, only continued.
type way struct {
	when []space.Test
	from []space.Origin
	then space.Outcome
	// image is what leaves the proxy at which the way begins.
	image space.Image
	// each is what the shares have of their own, in their order; nil if they are all alike.
	each []own
	// inside says that the callee's proxy has answered.
	inside bool
}

// own is what is done to those of a way's requests that go to one of its destinations.
type own struct {
	// image is all that leaves the proxy for there.
	image space.Image
	acts  []act
}

// fields are what acts do; of what is answered there, those before it is.
func (o own) fields(answered bool) []space.Field {
	var out []space.Field
	for _, a := range o.acts {
		if !answered || a.At < space.AtAccess {
			out = append(out, a.Fields...)
		}
	}
	return out
}

// start is the way of the requests that a rule takes.
func start(r space.Rule) way { return way{when: r.When, from: r.From, then: r.Then, image: r.Image} }

// leaving is the way of the requests that a route takes with these values, whose shares are those of to
// in its order, and what it meets.
func (c Column) leaving(r space.Rule, traits trait.Set, to []model.Target) (way, []act) {
	common, each := model.Apart(traits, to)
	r.Image = common.Image()
	w := start(r)
	if len(each) > 0 {
		w.then.Shares = slices.Clone(w.then.Shares)
	}
	for i, s := range each {
		o := own{image: s.Or(common).Image(), acts: c.acts(s)}
		w.each, w.then.Shares[i].Fields = append(w.each, o), o.fields(false)
	}
	return w, c.acts(common)
}

// imageOf is what leaves the proxy for one of the shares.
func (w way) imageOf(share int) space.Image {
	if w.each == nil {
		return w.image
	}
	return w.each[share].image
}

// rule is the way's end.
func (w way) rule() space.Rule {
	r := space.Rule{When: w.when, Then: w.then.Canonical(), From: w.from, Inside: w.inside, Image: w.image}
	for _, o := range w.each {
		r.Images = append(r.Images, o.image)
	}
	return r
}

// beforeDoor are the rules of a door, which see an image of requests, as rules about the requests
// themselves: those that can take one.
func beforeDoor(image space.Image, door space.List) space.List {
	if image.IsZero() {
		return door
	}
	var out space.List
	for _, r := range door {
		when, possible, err := image.Before(r.When)
		if err != nil {
			panic("eval: " + err.Error()) // Doubts has told of it
		}
		if possible {
			r.When = when
			out = append(out, r)
		}
	}
	return out
}

// meeting continues with those of the way's requests that an act is about.
func (w way) meeting(a act) way {
	w.when = slices.Concat(w.when, a.When)
	if a.origin != "" {
		w.from = append(slices.Clip(w.from), a.origin)
	}
	w.then.Fields = slices.Concat(w.then.Fields, a.Fields)
	w.then.Instead = slices.Concat(w.then.Instead, a.Instead)
	if len(a.Upgrades) > 0 {
		w.then.Shares = slices.Clone(w.then.Shares)
		for i := range w.then.Shares {
			w.then.Shares[i].Upgrades = strings.Join(a.Upgrades, ",")
		}
	}
	if a.Hold != nil {
		p := space.Partial{Feature: a.feature, Percent: a.Hold.Percent, Seconds: a.Hold.Seconds}
		w.then.Partly = append(slices.Clip(w.then.Partly), p)
	}
	if a.Answer != nil && !a.ends() {
		p := space.Partial{Feature: a.feature, Status: a.Answer.Status, GRPC: a.Answer.GRPC, Percent: a.Answer.Percent}
		w.then.Partly = append(slices.Clip(w.then.Partly), p)
	}
	return w
}

// ends reports whether no request that the act is about goes on.
func (a act) ends() bool { return a.Answer != nil && a.Answer.Percent == 0 }

// answered ends the way with what a proxy says. What else acts at its station acts on
// the answer as well.
func (w way) answered(a act, others []act) way {
	for _, o := range others {
		if o.At == a.At && len(o.When) == 0 {
			w.then.Fields = slices.Concat(w.then.Fields, o.Fields)
		}
	}
	verdict := verdictOf(a.Answer.Status)
	if a.At == space.AtDeny || a.At == space.AtUsers {
		verdict = space.Denied
	}
	return w.ending(space.Outcome{Verdict: verdict, Status: a.Answer.Status, Path: a.Answer.Path, By: a.feature})
}

// ending ends the way as o does, before any destination.
func (w way) ending(o space.Outcome) way {
	w.then.Verdict, w.then.Status, w.then.Path, w.then.By, w.then.Shares = o.Verdict, o.Status, o.Path, o.By, nil
	return w
}

// waiting is a way whose requests may be kept before they get anywhere, with the bounds that end
// them meanwhile: those hold for whoever is refused behind, too.
func (w way) waiting(behind []act) way {
	if !slices.ContainsFunc(w.then.Partly, func(p space.Partial) bool { return p.Seconds > 0 }) {
		return w
	}
	w.then.Fields = slices.Clone(w.then.Fields)
	for _, a := range behind {
		for _, f := range a.Fields {
			if len(a.When) == 0 && (f.Bounds == space.OfSilence || f.Bounds == space.OfStream) {
				w.then.Fields = append(w.then.Fields, f)
			}
		}
	}
	return w
}

// refusedInside ends the way as the callee's proxy does.
func (w way) refusedInside(o space.Outcome) way {
	w = w.ending(o)
	w.inside = true
	return w
}

func verdictOf(status int) space.Verdict {
	if slices.Contains([]int{301, 302, 303, 307, 308}, status) {
		return space.Redirect
	}
	return space.Answered
}

// through lets requests meet acts one after the other, and those that none of them
// answers meet the end.
func (w way) through(acts []act, end func(way) space.List) space.List {
	if len(acts) == 0 {
		return end(w)
	}
	a, others := acts[0], acts[1:]
	var out space.List
	if met := w.meeting(a); a.ends() {
		out = space.List{met.answered(a, others).rule()}
	} else {
		out = met.through(others, end)
	}
	if len(a.When) == 0 {
		return out
	}
	return append(out, w.through(others, end)...)
}

// whole is the way with all that acts do to all of its requests.
func (w way) whole(acts []act) space.Rule {
	for i, a := range acts {
		if len(a.When) > 0 {
			continue
		}
		if w = w.meeting(a); a.ends() {
			return w.answered(a, acts[i+1:]).rule()
		}
	}
	return w.rule()
}

// behindAccess cuts acts into those that a request meets before grants are asked, and
// those that only one meets that they admit.
func behindAccess(acts []act) (before, behind []act) {
	i := slices.IndexFunc(acts, func(a act) bool { return a.At > space.AtAccess })
	if i < 0 {
		return acts, nil
	}
	return acts[:i], acts[i:]
}

// to leads the way to where its shares go, in their order: as a rule to workloads of one service, through its
// door. Without shares there is nowhere to go.
func (w way) to(ends []end, acts []act) space.List {
	if len(w.then.Shares) == 0 {
		return space.List{w.ending(space.Refused()).rule()}
	}
	if w.each == nil && !slices.ContainsFunc(ends, func(e end) bool { return e.at != ends[0].at }) {
		w.then.Shares = slices.Clone(w.then.Shares)
		for i, s := range w.then.Shares {
			w.then.Shares[i].Upgrades = ends[0].door.passes(s.Upgrades)
		}
		return w.into(ends[0].door.rules, acts)
	}
	var refused space.List
	if shaken := handshake(ends); len(shaken) > 0 {
		refused = w.into(shaken, acts)
	}
	return append(refused, w.follow(withoutHandshake(ends), acts, func(w way, o space.Outcome) way { return w.waiting(acts).refusedInside(o) })...)
}

// handshake is what the handshake at all of the doors decides alike, before there is a request.
func handshake(ends []end) space.List {
	first := ends[0].door.rules[:ends[0].door.shaken()]
	for _, e := range ends[1:] {
		if !slices.EqualFunc(first, e.door.rules[:e.door.shaken()], func(a, b space.Rule) bool { return a.Key() == b.Key() }) {
			return nil
		}
	}
	return first
}

// withoutHandshake are doors at which there is a request already, unless it is one door's handshake alone that ends
// before: of its share the caller's proxy says that there is no way there.
func withoutHandshake(ends []end) []end {
	out, alike := slices.Clone(ends), len(handshake(ends)) > 0
	for i := range out {
		rules, shaken := slices.Clone(out[i].door.rules), out[i].door.shaken()
		if alike {
			rules = rules[shaken:]
		} else {
			for k := range shaken {
				rules[k].Then.Status = unavailable
			}
		}
		out[i].door.rules = rules
	}
	return out
}

// into leads the way through a door; behind it, acts are met. What becomes of those
// that get through is the same for all rules of the door.
func (w way) into(door space.List, acts []act) space.List {
	passed := w.through(acts, func(w way) space.List { return space.List{w.rule()} })
	out := make(space.List, 0, len(door))
	for _, r := range beforeDoor(w.image, door) {
		then := passed
		if r.Then.Verdict != space.Forward {
			then = space.List{w.waiting(acts).refusedInside(r.Then).rule()}
		}
		for _, t := range then {
			out = append(out, space.Rule{When: slices.Concat(t.When, r.When), Then: t.Then, From: slices.Concat(w.from, r.From), Inside: t.Inside, Handshake: r.Handshake, Image: w.image})
		}
	}
	return out
}

// door is what the proxy of a service's port does with requests before its workload
// gets them: the handshake, what features answer, then the grants. An upgrade of the
// connection has to be among those that its features let through; nothing holds back
// any where there is no such proxy.
type door struct {
	rules    space.List
	upgrades []string
	none     bool
}

func doorOf(s *model.Service, p model.Port, c Column, access space.List) door {
	shaken := handshakes(p)
	var d door
	var answers []act
	for _, a := range c.actsOn(p, s.TraitsAt(p.Name)) {
		d.upgrades = append(d.upgrades, a.Upgrades...)
		if a.At < space.AtAccess && a.At != space.AtDeny && a.Answer != nil { // what a feature refuses is in access
			a.Fields = nil // what a service does to all of its requests is told of the service
			answers = append(answers, a)
		}
	}
	open := space.Rule{Then: space.Outcome{Verdict: space.Forward}}
	inside := start(open).through(answers, func(w way) space.List { return w.into(access[shaken:], nil) })
	d.rules = slices.Concat(access[:shaken], inside)
	return d
}

// shaken is how many of the door's rules the handshake decides.
func (d door) shaken() int {
	n := 0
	for n < len(d.rules) && d.rules[n].Handshake {
		n++
	}
	return n
}

// passes are those of the upgrades that the door lets through.
func (d door) passes(upgrades string) string {
	if d.none || upgrades == "" {
		return upgrades
	}
	kept := slices.DeleteFunc(strings.Split(upgrades, ","), func(u string) bool { return !slices.Contains(d.upgrades, u) })
	return strings.Join(kept, ",")
}
