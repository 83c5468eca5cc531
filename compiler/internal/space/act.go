package space

// Station is a place on a request's way where something acts on it. Stations are met
// in the order of their values.
type Station int

// The stations of a request.
const (
	// AtCaller is the proxy that the request meets first, a sidecar's or a gateway's,
	// with the route that it has chosen.
	AtCaller Station = iota
	// AtCallee is the destination's proxy, before it asks its grants.
	AtCallee
	// AtAccess is that proxy as it asks them. Nothing but grants acts here.
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
	// Answer, if set, is what the proxy at the station says instead of passing them on.
	Answer *Reply
	// Tries is how often a request may be begun by its destination at most; 0 says nothing of it.
	Tries int
	// Fields are what the feature does besides, in words.
	Fields []Field
}

// Reply is an answer that a proxy gives by itself.
type Reply struct {
	// Status is an HTTP status, 200 to 599.
	Status int
	// Percent of the requests get it, above 0 to 100; the others go on.
	Percent float64
}

// Labels is the one act of a feature that does nothing but what its fields say.
func Labels(at Station, fields ...Field) []Act { return []Act{{At: at, Fields: fields}} }

// Partial is an answer that a share of the requests gets before the rest of an outcome.
type Partial struct {
	// Feature is the name of what answers.
	Feature string  `json:"feature"`
	Status  int     `json:"status"`
	Percent float64 `json:"percent"`
}
