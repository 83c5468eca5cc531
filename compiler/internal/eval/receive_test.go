package eval_test

import (
	"strconv"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/hop"
)

// What the doors of ci/envoy's cases do not show: the inbound door, and what decides if
// several things are wrong. ci/envoy asks the real Envoy at the others.
func TestReceive(t *testing.T) {
	many := func(n int) (out []space.Header) {
		for i := range n {
			out = append(out, space.Header{Name: "x-" + strconv.Itoa(i), Value: "1"})
		}
		return out
	}
	cookies := func(values ...string) (out []space.Header) {
		for _, v := range values {
			out = append(out, space.Header{Name: "cookie", Value: v})
		}
		return out
	}
	get := eval.Sent{Door: hop.Inbound, HTTP: eval.HTTP11, Method: "GET", Target: "/", Host: "a.test"}
	for name, c := range map[string]struct {
		change func(*eval.Sent)
		status int // 0: it is taken, or its stream is ended
		why    string
	}{
		"taken":                              {func(*eval.Sent) {}, 0, ""},
		"an underscore in the host of a URI": {func(s *eval.Sent) { s.Target = "http://a_b.test/" }, 400, "the target is neither a path nor a URI with a host"},
		"an underscore in a host":            {func(s *eval.Sent) { s.Host = "a_b.test" }, 0, ""},
		"as many lines as it takes":          {func(s *eval.Sent) { s.Headers = many(199) }, 0, ""},
		"a line more":                        {func(s *eval.Sent) { s.Headers = many(200) }, 431, "the head has more than 200 lines"},
		"a line more over HTTP/2":            {func(s *eval.Sent) { s.HTTP, s.Headers = eval.HTTP2, many(197) }, 0, "the head has more than 200 lines"},
		"each piece of a cookie is a line":   {func(s *eval.Sent) { s.HTTP, s.Headers = eval.HTTP2, append(many(194), cookies("a", "b", "c")...) }, 0, "the head has more than 200 lines"},
		"a cookie in as many lines":          {func(s *eval.Sent) { s.HTTP, s.Headers = eval.HTTP2, append(many(194), cookies("a", "b")...) }, 0, ""},
		"a cookie's value counts": {func(s *eval.Sent) {
			s.HTTP, s.Headers = eval.HTTP2, cookies("", strings.Repeat("a", 102355-40000), strings.Repeat("b", 40000))
		}, 0, ""},
		"a byte more of it": {func(s *eval.Sent) {
			s.HTTP, s.Headers = eval.HTTP2, cookies("", strings.Repeat("a", 102356-40000), strings.Repeat("b", 40000))
		}, 0, "the head has 102401 bytes, and 102400 are taken"},
		"a gateway takes fewer":      {func(s *eval.Sent) { s.Door, s.Headers = hop.Gateway, many(100) }, 431, "the head has more than 100 lines"},
		"a long path":                {func(s *eval.Sent) { s.Target += strings.Repeat("a", 100<<10) }, 431, "the head has 102432 bytes, and 102400 are taken"},
		"too long to be read at all": {func(s *eval.Sent) { s.Target = strings.Repeat("a", 100<<10) }, 431, "the head has 102431 bytes, and 102400 are taken"},
		"no target before too long": {func(s *eval.Sent) {
			s.Target, s.Headers = "a", []space.Header{{Name: "x", Value: strings.Repeat("a", 100<<10)}}
		}, 400, "the target is neither a path nor a URI"},
		"the limit before the version": {func(s *eval.Sent) { s.HTTP, s.Headers = eval.HTTP10, many(200) }, 431, "the head has more than 200 lines"},
		"the version before the path":  {func(s *eval.Sent) { s.HTTP, s.Target = eval.HTTP10, "/%2f" }, 426, "HTTP/1.0 is not spoken"},
		"a coding before the version": {func(s *eval.Sent) {
			s.HTTP, s.Headers = eval.HTTP10, []space.Header{{Name: "Transfer-Encoding", Value: "gzip"}}
		}, 501, `the transfer encoding "gzip" is not spoken`},
		"two lengths before the coding": {func(s *eval.Sent) {
			s.Headers = []space.Header{{Name: "transfer-encoding", Value: "gzip"}, {Name: "content-length", Value: "1"}}
		}, 400, "content-length and transfer-encoding both say how long the body is"},
		"chunks": {func(s *eval.Sent) { s.Headers = []space.Header{{Name: "transfer-encoding", Value: " Chunked"}} }, 0, ""},
		"a wish before the length": {func(s *eval.Sent) {
			s.Door, s.Headers = hop.Outbound, []space.Header{{Name: "Content-Length", Value: "1000000000000000000"}, {Name: "Connection", Value: "upgrade"}, {Name: "Upgrade", Value: "x"}}
		}, 403, "the length is none, or too long for HTTP/2, and no connection changes to x"},
	} {
		s := get
		c.change(&s)
		a := eval.Receive(s).Answer
		if a == nil {
			a = &space.Answer{}
		}
		if a.Outcome.Status != c.status || a.Why != c.why {
			t.Errorf("%s: %d %q, want %d %q", name, a.Outcome.Status, a.Why, c.status, c.why)
		}
	}
}

// A WebSocket over HTTP/2 is a GET with a wish to the routes (RFC 8441).
func TestReceiveExtendedConnect(t *testing.T) {
	got := eval.Receive(eval.Sent{Door: hop.Gateway, HTTP: eval.HTTP2, Method: "CONNECT", Target: "/live?a", Host: "a.test:80", Headers: []space.Header{{Name: ":protocol", Value: "websocket"}}})
	if q := got.Request; got.Answer != nil || q.Method != "GET" || q.Upgrade != "websocket" || q.Path != "/live" || q.Query != "a" || q.Host != "a.test" || got.Authority != "a.test:80" || len(q.Headers) != 0 {
		t.Errorf("%+v", got)
	}
}
