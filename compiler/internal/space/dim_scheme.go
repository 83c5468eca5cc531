package space

// SchemeDim is how a request came to a gateway: "http" or "https".
const SchemeDim Dim = "scheme"

var scheme = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     string(SchemeDim),
	Door:     true,
	Values:   func(q Request, _ string) []string { return one(q.Scheme) },
	With:     func(q Request, _, v string) Request { q.Scheme = v; return q },
	Universe: fixed(`https?`),
	Word:     "scheme",
	Single:   true,
	Fixes:    func(q Request, _ string) bool { return q.Scheme != "" },
	Place:    Addition,
	Words:    func(_ string, t Test) string { return "by " + texts(t, text) },
}
