package space

import (
	"strings"

	"meshc.dev/meshc/internal/hop"
)

// MethodDim is the method.
const MethodDim Dim = "method"

var method = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     string(MethodDim),
	Values:   func(q Request, _ string) []string { return one(q.Method) },
	With:     func(q Request, _, v string) Request { q.Method = v; return q },
	Universe: fixed(strings.Join(hop.Methods(), "|")), // the first proxy answers 400 to others
	Likely:   []string{"GET", "POST", "PUT", "DELETE"},
	Word:     "methods",
	Fixes:    func(q Request, _ string) bool { return q.Method != "" },
	Place:    Verb,
	Words:    func(_ string, t Test) string { return texts(t, text) },
}
