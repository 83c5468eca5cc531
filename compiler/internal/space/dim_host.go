package space

import (
	"regexp"
	"strings"
)

// HostDim is the host, in lower case, without port and final dot; "" where the sender does not care.
const HostDim Dim = "host"

// hostUniverse is every host that a proxy takes (hop.Authority), in lower case.
const hostUniverse = `(?:[-_.~!$&'()*+;=0-9a-z]|%[0-9a-f]{2})+|\[[-_.~!$&'()*+;=:0-9a-z]+\]`

var host = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:      string(HostDim),
	Values:    func(q Request, _ string) []string { return one(q.Host) },
	With:      func(q Request, _, v string) Request { q.Host = v; return q },
	Universe:  fixed(`|` + hostUniverse),
	Likely:    []string{""},
	Word:      "hosts",
	Patterned: true,
	Fixes:     func(q Request, _ string) bool { return q.Host != "" },
	Place:     Addition,
	Words:     hostWords,
}

// HostUniverse is a regular expression for the hosts that come to a gateway's host of that name: its own, or
// whatever a wildcard takes.
func HostUniverse(name string) string {
	suffix, below := strings.CutPrefix(name, "*")
	switch {
	case !below:
		return regexp.QuoteMeta(name)
	case suffix == "":
		return hostUniverse
	}
	return `(?:[-_.~!$&'()*+;=0-9a-z]|%[0-9a-f]{2})+` + regexp.QuoteMeta(suffix)
}

// HostTest takes requests for one of these hosts, each a name or "*.b" for all below it: as it is
// written, or in every spelling.
func HostTest(hosts []string, kind Kind) Test {
	t := Test{Dim: HostDim}
	for _, h := range hosts {
		t.Any = append(t.Any, Pattern{kind, h})
	}
	return t
}

// hostExpression takes a host, however many dots end it: each proxy on the way takes one away.
func hostExpression(name string) string {
	suffix, below := strings.CutPrefix(name, "*")
	if below {
		return ".+" + regexp.QuoteMeta(suffix) + `\.*`
	}
	return regexp.QuoteMeta(name) + `\.*`
}

func hostWords(_ string, t Test) string {
	words := "for host "
	if t.Not {
		words = "for no host "
	}
	each := make([]string, len(t.Any))
	spelling := ""
	for i, p := range t.Any {
		if each[i] = p.Text; p.Kind == Called {
			spelling = " in any spelling"
		}
	}
	return words + strings.Join(each, ", ") + spelling
}
