package space

import (
	"maps"
	"slices"
	"strconv"
)

// Station is a place on a request's way where something acts on it. Stations are met in
// the order of their values: those before AtAccess at the proxy that the carrier speaks
// for, which is the caller's for a route and the callee's own for a service, those from
// AtAccess on at the callee's.
type Station int

// The stations of a request.
const (
	// AtArrival is before anything else looks at the request.
	AtArrival Station = iota
	// AtDrill is where faults are made on purpose.
	AtDrill
	// AtUsers is where it is found out who the end user is. What answers here refuses, and is a denial.
	AtUsers
	// AtDeny is where denies are asked. What answers here refuses, and is a denial.
	AtDeny
	// AtAsking is where a gateway asks others whether they admit it; a service does so behind its grants.
	AtAsking
	// AtRoute is where the route itself acts: it answers, copies, or edits what comes back.
	AtRoute
	// AtAccess is the callee's proxy as it asks its grants. Nothing but grants acts here.
	AtAccess
	// AtWorkload is behind the grants: what only a request meets that gets through, or
	// its answer.
	AtWorkload
)

// Act is one thing that a feature does to the requests of a rule.
type Act struct {
	At Station
	// When says which of them; no tests are all.
	When []Test
	// Hold, if set, is how long the proxy at the station keeps a share of them before anything else.
	Hold *Hold
	// Answer, if set, is what the proxy at the station says instead of passing them on.
	Answer *Reply
	// Passing says that it means nothing to requests that their route itself answers.
	Passing bool
	// Upgrades are the protocols to which requests that are passed on may change their
	// connection, in lower case; every proxy on the way has to allow it.
	Upgrades []string
	// Tries is how often a request may be begun by its destination at most; 0 says nothing of it.
	Tries int
	// Instead are the statuses that the proxy at the station says in place of those of its own answers; fields tell it.
	Instead []Instead
	// Fields are what the feature does besides, in words.
	Fields []Field
}

// Reply is an answer that a proxy gives by itself.
type Reply struct {
	// Status is an HTTP status, 200 to 599.
	Status int
	// GRPC is the name of the status by which a call of gRPC is ended, "" for an answer that is none's. Status is 200 then.
	GRPC string
	// Percent of the requests get it, above 0 to 100; the others go on.
	Percent float64
	// Path is what a redirect makes of the path, nil if that stays. Its act's fields tell it.
	Path *Move
}

// Instead is a status that a proxy says in place of another one, where something has gone wrong on the way: what
// routes, drills and grants say stays.
type Instead struct {
	Of     int `json:"of"`
	Status int `json:"status"`
}

// Hold keeps requests for a while.
type Hold struct {
	// Seconds and Percent are above 0.
	Seconds, Percent float64
}

// Labels is the one act of a feature that does nothing but what its fields say.
func Labels(at Station, fields ...Field) []Act { return []Act{{At: at, Fields: fields}} }

// LabelsAt are Labels at several stations, in the order in which requests come to them.
func LabelsAt(fields map[Station][]Field) []Act {
	var out []Act
	for _, at := range slices.Sorted(maps.Keys(fields)) {
		out = append(out, Labels(at, fields[at]...)...)
	}
	return out
}

// Partial is what a share of the requests meets before the rest of an outcome: an answer, or a
// time for which they are kept.
type Partial struct {
	// Feature is the name of what does it.
	Feature string `json:"feature"`
	// Status is the answer's, 0 for those that are kept.
	Status int `json:"status,omitempty"`
	// GRPC is the name of the status by which a call is ended, beside Status 200.
	GRPC    string  `json:"grpc,omitempty"`
	Percent float64 `json:"percent"`
	// Seconds is for how long they are kept.
	Seconds float64 `json:"seconds,omitempty"`
}

// Told is the answer's status in words.
func (p Partial) Told() string {
	if p.GRPC != "" {
		return "gRPC " + p.GRPC
	}
	return strconv.Itoa(p.Status)
}

// Ends reports whether no request goes on behind it.
func (p Partial) Ends() bool { return p.Status != 0 && p.Percent >= 100 }
