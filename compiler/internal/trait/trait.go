// Package trait holds settled feature values attached to an object.
//
// In: typed values, each with the name of the feature that owns it. Out: an
// ordered set, equal for equal values whatever the order of insertion. A Set is
// built once and then only read.
package trait

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"meshc.dev/meshc/compiler/internal/space"
)

// Value is a feature's settled value: a struct of plain data (no functions, no
// pointers that are shared), encodable as JSON. TraitName is the row's name in
// the matrix and the key in mesh.json.
type Value interface{ TraitName() string }

// Chained is a value that is joined with another one of its feature, where a request meets
// both and both are written: a gateway's route and then one of the service behind it. What
// changes requests adds up, of two bounds the tighter holds. Of other features the first value
// replaces the second.
type Chained interface {
	Value
	// Then is what both come to, the value's carrier first. next has its type.
	Then(next Value) Value
}

// Changing is a value that changes requests as they leave the proxy that its carrier speaks
// for: whatever is behind it sees the image. Two that one set may hold are about different things.
type Changing interface {
	Value
	Image() space.Image
}

// Knowing is a value by which a proxy finds out who end users are.
type Knowing interface {
	Value
	// SignedIn are the tests that hold together for the requests whose users a provider has signed in there;
	// ok is false if nobody looks at its tokens.
	SignedIn(provider string) (are []space.Test, ok bool)
	// Logins are the IDs of those by which browsers sign in there.
	Logins() []string
}

// Agreed is a value that a gateway's route and the route of the service behind it must both
// have: what only one of them says does not count.
type Agreed interface {
	Value
	// With is what both agree on, nil for nothing. other has the value's type.
	With(other Value) Value
}

// Answering is a value by which a proxy answers itself: nothing is sent on.
type Answering interface {
	Value
	Answers()
}

// Moved is an answer that sends the visitor on to another place.
type Moved interface {
	Value
	// To is what the visitor asks next who has asked this; the header fields stay.
	To(Asked) Asked
}

// Asked is a request as its visitor says it.
type Asked struct {
	// Scheme is "http" or "https", Host a name without a port.
	Scheme, Host string
	// Port is the number that is named, 0 for any at which the host is by the scheme.
	Port                int
	Path, Query, Method string
}

// Moving is a value that moves the path of a request, or leads a visitor to another one.
type Moving interface {
	Value
	// Moves is nil for one that leaves the path.
	Moves() *space.Move
}

// Placed is a value that is about the path of a request as the route of its carrier gets it.
type Placed interface {
	Value
	// Behind says the same of requests before they are changed: a gateway's route does so
	// before the service's route that has the value.
	Behind(space.Image) Value
}

// Bound is a value that ends requests.
type Bound interface {
	Value
	// Waits is how long a request may wait for its answer with all that is tried for it, 0 for any time.
	Waits() time.Duration
}

// Tried is a value that bounds each of the tries to get an answer.
type Tried interface {
	Value
	// Try is how long one may take, 0 for as long as the whole.
	Try() time.Duration
	// Pause is how long the callee may have its caller wait before the next, 0 if it may not.
	Pause() time.Duration
}

// Calling is a value that may be about calls of gRPC.
type Calling interface {
	Value
	// Calls reports whether it says something that means nothing to other requests.
	Calls() bool
}

// Dependent is a value that means something beside certain others only. One that counts as not
// written is left out of a set where two are joined that do not have those.
type Dependent interface {
	Value
	Means(beside Set) bool
}

// Yielding is a value that leaves to another one of its set what that one says: where two sets are
// joined it is asked for what is left of it.
type Yielding interface {
	Value
	// Beside is what is left, nil for nothing.
	Beside(all Set) Value
}

// Demanding is a value by which a service's own proxy may refuse requests: those that do not bring something along, or
// that are too many.
type Demanding interface {
	Value
	// Demands are the words, as in `users: "corp"`, that may refuse a request of that method and path, "" for none.
	Demands(method, path string) string
}

// Interposed is a value by which a service's own proxy may answer requests in place of the service, whatever it says of
// their paths: only it knows which.
type Interposed interface {
	Value
	// MayAnswer are the words, as in `lua: "guard"`, that may answer a request of that method, which nobody's page makes, "" for
	// none; always says that they do.
	MayAnswer(method string) (words string, always bool)
}

// Overruled is a value of which, where what is behind says something as well, only some words hold.
type Overruled interface {
	Value
	// Lost are the words that it says otherwise than by default and that do not hold before next; those that hold are Kept.
	Lost(next Value) []string
	Kept() string
}

// Lasting is a value by which a request goes on beyond its answer, so that no Bound ends it.
type Lasting interface {
	Value
	Lasts()
}

// Ranked is a value by which callers' proxies rank workloads by where they are.
type Ranked interface {
	Value
	Ranks()
}

// Elsewhere is a value by which requests may have to go to workloads of another rank than before.
type Elsewhere interface {
	Value
	// Elsewhere is the word that says so, "" if none does.
	Elsewhere() string
}

// Yielded is a value by which a version's share of a route goes to the route's other versions while it has no workloads.
type Yielded interface {
	Value
	Yields()
}

// Apart is a value of which each destination of a route may have its own: one that a destination
// says comes behind the route's (Chained), and where several destinations differ, each keeps its own.
type Apart interface {
	Chained
	Apart()
}

// Codec decodes a value from its form in mesh.json. Encoding is plain JSON.
type Codec func(raw []byte) (Value, error)

// JSON is the codec of a trait whose JSON form is its own. Unknown fields are
// refused: a mesh.json of a newer compiler must not be half-read.
func JSON[T Value](raw []byte) (Value, error) {
	var v T
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("reading trait %q: %w", v.TraitName(), err)
	}
	return v, nil
}

// Set is an immutable set of traits, at most one of a name. The zero Set is
// empty. Its JSON form is an object from name to value, and under DefaultsKey the names of
// those that count as not written. A Set that was read from JSON holds raw values until
// Decoded gave them their types.
type Set struct {
	m   map[string]Value
	raw map[string]json.RawMessage
	// unwritten are the names of values that hold because nothing nearer says anything.
	unwritten map[string]bool
}

// DefaultsKey is no trait's name.
const DefaultsKey = "default"

// Of makes a set. A later value of the same name replaces an earlier one.
func Of(vs ...Value) Set {
	m := make(map[string]Value, len(vs))
	for _, v := range vs {
		m[v.TraitName()] = v
	}
	return Set{m: m}
}

// With returns s and v.
func (s Set) With(v Value) Set { return s.and(v, false) }

// WithDefault returns s and v, which counts as not written: where another set on a request's
// way has a value of its feature, that one stands, and the two are not joined.
func (s Set) WithDefault(v Value) Set { return s.and(v, true) }

func (s Set) and(v Value, unwritten bool) Set {
	out := Set{m: maps.Clone(s.m), unwritten: maps.Clone(s.unwritten)}
	if out.m == nil {
		out.m = map[string]Value{}
	}
	out.put(v.TraitName(), v, unwritten)
	return out
}

// IsDefault reports whether the value of that name counts as not written.
func (s Set) IsDefault(name string) bool { return s.unwritten[name] }

// Then returns the values of both sets: of what s and next have both, that of s, joined with
// that of next if it is Chained. What they have to agree on is left where they do. A value that
// counts as not written gives way to the other set's.
func (s Set) Then(next Set) Set {
	out := Set{m: make(map[string]Value, len(next.m)+len(s.m))}
	for name, v := range next.m {
		switch said := v.(type) {
		case Agreed:
			continue
		case Placed:
			v = said.Behind(s.Image())
		}
		out.put(name, v, next.unwritten[name])
	}
	for name, v := range s.m {
		other, both := next.m[name]
		agreed, must := v.(Agreed)
		chained, adds := v.(Chained)
		switch {
		case must && both:
			v = agreed.With(other)
		case must, both && s.unwritten[name]:
			continue
		case both && adds && !next.unwritten[name]:
			v = chained.Then(other)
		}
		if v != nil {
			out.put(name, v, s.unwritten[name])
		}
	}
	for name, v := range out.m {
		y, ok := v.(Yielding)
		if !ok {
			continue
		}
		if v = y.Beside(out); v != nil {
			out.m[name] = v
			continue
		}
		delete(out.m, name)
		delete(out.unwritten, name)
	}
	return out.meaning()
}

// meaning is s, which nobody else has, without the values that mean nothing in it.
func (s Set) meaning() Set {
	for name := range s.unwritten {
		if d, ok := s.m[name].(Dependent); ok && !d.Means(s) {
			delete(s.m, name)
			delete(s.unwritten, name)
		}
	}
	return s
}

// Or returns the values of s, and those of base of whose names s has none.
func (s Set) Or(base Set) Set {
	if len(s.m) == 0 {
		return base
	}
	out := Set{m: maps.Clone(base.m), unwritten: maps.Clone(base.unwritten)}
	if out.m == nil {
		out.m = map[string]Value{}
	}
	for name, v := range s.m {
		out.put(name, v, s.unwritten[name])
	}
	return out.meaning()
}

func (s *Set) put(name string, v Value, unwritten bool) {
	s.m[name] = v
	switch {
	case !unwritten:
		delete(s.unwritten, name)
	case s.unwritten == nil:
		s.unwritten = map[string]bool{name: true}
	default:
		s.unwritten[name] = true
	}
}

// And returns the values of both sets, those of what s and more have both joined: what a route says
// and then a destination of its own.
func (s Set) And(more Set) Set {
	if more.Len() == 0 {
		return s
	}
	out := Set{m: maps.Clone(s.m), unwritten: maps.Clone(s.unwritten)}
	if out.m == nil {
		out.m = map[string]Value{}
	}
	for name, v := range more.m {
		if own, ok := s.m[name].(Chained); ok && !s.unwritten[name] {
			v = own.Then(v)
		}
		out.put(name, v, false)
	}
	return out
}

// Joins is nil if Then can say what both sets do one after the other, else an Unclear of
// package space.
func (s Set) Joins(next Set) error {
	m := s.Image().Path
	if m == nil {
		return nil
	}
	for _, name := range next.Names() {
		if v, ok := next.m[name].(Moving); ok && v.Moves() != nil && !m.Joins(*v.Moves()) {
			return space.Unclear("the path is made by an expression here and changed again there, and one proxy does both")
		}
	}
	return nil
}

// Image is what all of the set together makes of requests.
func (s Set) Image() space.Image {
	var m space.Image
	for _, name := range s.Names() {
		if c, ok := s.m[name].(Changing); ok {
			m = m.And(c.Image())
		}
	}
	return m
}

// SignedIn are the tests that hold together for the requests whose users a provider has signed in; ok is
// false if nobody looks at its tokens.
func (s Set) SignedIn(provider string) (are []space.Test, ok bool) {
	for _, v := range s.m {
		if k, is := v.(Knowing); is {
			return k.SignedIn(provider)
		}
	}
	return nil, false
}

// Logins are the IDs of the logins by which browsers sign in.
func (s Set) Logins() []string {
	var out []string
	for _, v := range s.m {
		if k, is := v.(Knowing); is {
			out = append(out, k.Logins()...)
		}
	}
	return out
}

// Answers reports whether a value of the set answers.
func (s Set) Answers() bool { return has[Answering](s) }

// Ranks reports whether one of the values ranks workloads.
func (s Set) Ranks() bool { return has[Ranked](s) }

// Yields reports whether a version with them leaves its share to others while it has no workloads.
func (s Set) Yields() bool { return has[Yielded](s) }

// has reports whether one of the values is a T.
func has[T Value](s Set) bool {
	for _, v := range s.m {
		if _, ok := v.(T); ok {
			return true
		}
	}
	return false
}

// Equal reports whether both have the same values, written and not.
func (s Set) Equal(other Set) bool {
	return maps.EqualFunc(s.m, other.m, func(a, b Value) bool { return reflect.DeepEqual(a, b) }) && maps.Equal(s.unwritten, other.unwritten)
}

// Names returns the names in s, sorted.
func (s Set) Names() []string { return slices.Sorted(maps.Keys(s.m)) }

// Without returns s without the values that drop names.
func (s Set) Without(drop func(Value) bool) Set {
	out := Set{m: maps.Clone(s.m), unwritten: maps.Clone(s.unwritten)}
	maps.DeleteFunc(out.m, func(_ string, v Value) bool { return drop(v) })
	maps.DeleteFunc(out.unwritten, func(name string, _ bool) bool { return out.m[name] == nil })
	return out
}

// Lookup returns the value of that name.
func (s Set) Lookup(name string) (Value, bool) { v, ok := s.m[name]; return v, ok }

// Len is the number of traits in s.
func (s Set) Len() int { return len(s.m) }

// Get returns the trait of type T, if s has one.
func Get[T Value](s Set) (T, bool) {
	var zero T
	v, ok := s.m[zero.TraitName()]
	if !ok {
		return zero, false
	}
	t, ok := v.(T)
	return t, ok
}

// MarshalJSON gives an object from name to value.
func (s Set) MarshalJSON() ([]byte, error) {
	if len(s.unwritten) == 0 {
		return json.Marshal(s.m)
	}
	out := make(map[string]any, len(s.m)+1)
	for name, v := range s.m {
		out[name] = v
	}
	out[DefaultsKey] = slices.Sorted(maps.Keys(s.unwritten))
	return json.Marshal(out)
}

// IsZero lets encoding/json leave out an empty set (omitzero).
func (s Set) IsZero() bool { return len(s.m) == 0 }

// UnmarshalJSON keeps the raw values; the codecs are applied by Decoded.
func (s *Set) UnmarshalJSON(b []byte) error {
	*s = Set{}
	if err := json.Unmarshal(b, &s.raw); err != nil {
		return fmt.Errorf("reading traits: %w", err)
	}
	var names []string
	if raw, ok := s.raw[DefaultsKey]; ok {
		if err := json.Unmarshal(raw, &names); err != nil {
			return fmt.Errorf("reading traits: which are defaults: %w", err)
		}
		delete(s.raw, DefaultsKey)
		s.unwritten = map[string]bool{}
	}
	for _, name := range names {
		if _, ok := s.raw[name]; !ok {
			return fmt.Errorf("reading traits: default %q has no value", name)
		}
		s.unwritten[name] = true
	}
	return nil
}

// Decoded gives the values of a set that was read from JSON their types. A name
// without a codec is an error: nothing is dropped.
func (s Set) Decoded(codecs map[string]Codec) (Set, error) {
	if len(s.raw) == 0 {
		return s, nil
	}
	out := make(map[string]Value, len(s.raw))
	for _, name := range slices.Sorted(maps.Keys(s.raw)) {
		c, ok := codecs[name]
		if !ok {
			return Set{}, fmt.Errorf("reading traits: unknown feature %q (the release was made by another compiler)", name)
		}
		v, err := c(s.raw[name])
		if err != nil {
			return Set{}, err
		}
		out[name] = v
	}
	return Set{m: out, unwritten: s.unwritten}, nil
}
