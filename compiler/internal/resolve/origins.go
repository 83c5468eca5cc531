package resolve

import (
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/internal/diag"
)

// Origins reads a list of origins of pages, sorted. One that no browser names is a problem.
func (x *Place) Origins(n intent.Node) []string {
	for _, o := range n.List() {
		x.checkPort(o)
	}
	return n.Strings()
}

// checkPort refuses an origin that no browser ever names: they leave out the port that is
// the scheme's own (https://url.spec.whatwg.org/#concept-url-port), and others end at 65535.
func (x *Place) checkPort(n intent.Node) {
	scheme, rest, _ := strings.Cut(n.Str(), "://")
	colon := strings.LastIndexByte(rest, ':')
	if colon <= strings.LastIndexByte(rest, ']') {
		return
	}
	text := rest[colon+1:]
	port, err := strconv.ParseUint(text, 10, 16)
	switch own := map[string]uint64{"http": 80, "https": 443}[scheme]; {
	case err != nil || port == 0:
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "origin %q has a port that is none: %s", n.Str(), text).WithFix("write one from 1 to 65535"))
	case port == own:
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "no page has the origin %q: browsers leave out %d, which is the port of %s", n.Str(), own, scheme).
			WithFix("write %q", scheme+"://"+rest[:colon]))
	case text != strconv.FormatUint(port, 10):
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "no page has the origin %q: browsers write the port as %d", n.Str(), port).
			WithFix("write %q", scheme+"://"+rest[:colon+1]+strconv.FormatUint(port, 10)))
	}
}
