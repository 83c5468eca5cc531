package space

// HostDim is the host, in lower case, without port and final dot.
const HostDim Dim = "host"

var host = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     string(HostDim),
	Values:   func(q Request, _ string) []string { return one(q.Host) },
	With:     func(q Request, _, v string) Request { q.Host = v; return q },
	Universe: fixed(`[-_.:\[\]0-9a-z]+`),
}
