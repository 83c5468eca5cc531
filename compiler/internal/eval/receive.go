package eval

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/hop"
)

// ByProxy names the first proxy of a request's way as what answers it, whatever hosts and
// routes there are.
const ByProxy = "proxy"

// Versions of HTTP, as a request names them.
const (
	HTTP10 = "1.0"
	HTTP11 = "1.1"
	HTTP2  = "2"
)

// Methods whose targets have forms of their own.
const (
	connect = "CONNECT"
	options = "OPTIONS"
)

// Sent is a request as its sender writes it to a proxy.
type Sent struct {
	Door hop.Door
	// TLS says that it comes by HTTPS.
	TLS bool
	// Hops is how many proxies in front of a gateway are believed.
	Hops uint32
	// HTTP is HTTP10, HTTP11 or HTTP2.
	HTTP string
	// Takes10 says that the door takes requests of HTTP/1.0.
	Takes10 bool
	// Target is the request's target (RFC 9112 section 3.2): a path with its query, a URI, "*", or
	// for CONNECT a host and its port. Over HTTP/2 it is ":path".
	Method, Target string
	// Host is the header's, or ":authority"; "" if the sender does not care.
	Host string
	// Headers are lines in their order. Over HTTP/2 ":protocol" may be among them (RFC 8441), and a
	// ":scheme" that is not the connection's.
	Headers []space.Header
}

// Received is what a proxy makes of a request before it looks for a host or a route.
type Received struct {
	// Request is as routes see it; who sends it is left open.
	Request space.Request
	// Authority is the host with its port as redirects and destinations get it, "" if the sender does not care.
	Authority string
	// Scheme is "http" or "https": where a redirect leads that names none.
	Scheme string
	// Client is the visitor's address as proxies tell it that a gateway believes; the zero Addr is the
	// connection's own.
	Client netip.Addr
	// Answer is the proxy's own if it does not take the request, else nil.
	Answer *space.Answer
	// Odd says that a workload's proxy passes on what the first proxy of a mesh would refuse. Applications may.
	Odd bool
}

// Receive reads a request as Envoy 1.40 does at one of our doors: its codec, its connection
// manager, and the routes that every host begins with (target/envoy/refuse.go), in this order.
func Receive(s Sent) Received {
	if s.HTTP != HTTP2 { // any number of blanks stands between the words of the first line, where a return is one, and around a value
		s.Target = strings.Trim(s.Target, " \t\r")
		s.Host = cmp.Or(strings.Trim(s.Host, " \t"), s.Host) // nothing is a sender that does not care
		s.Headers = withoutReturns(s.Headers)
	}
	in := reading{Sent: s, host: joinedHosts(s), target: s.Target}
	problem := in.codec()
	if problem == nil {
		problem = in.manager()
	}
	lines := trimmed(s)
	if in.upgrade == "" { // of a connection that is to change nothing is taken
		lines = withoutNamed(lines)
	}
	out := Received{Authority: WithoutDot(in.host), Scheme: in.scheme(), Request: space.Request{
		Host: CleanHost(in.host), Method: in.Method, Path: in.path, Query: in.query, Upgrade: in.upgrade, Headers: CleanHeaders(s.Door, lines),
	}}
	if s.Door == hop.Gateway {
		out.Request.Scheme, out.Client = out.Scheme, in.client()
	}
	if problem == nil {
		if problem = in.routes(); s.Door == hop.Inbound { // no host there begins with them
			out.Odd, problem = problem != nil, nil
		}
	}
	if problem != nil {
		out.Request.Path, _, _ = strings.Cut(in.target, "?")
		if in.path != "" {
			out.Request.Path = in.path
		}
		out.Answer = &space.Answer{Why: problem.why, Outcome: space.Outcome{Verdict: space.Denied, Status: problem.status, By: ByProxy}}
		if problem.status == unrouted {
			out.Answer.Outcome.Verdict = space.NotFound
		}
	}
	return out
}

// Unrouted reports whether no route takes such requests.
func (r Received) Unrouted() bool { return r.Answer != nil && r.Answer.Outcome.Status == unrouted }

// refusal is why a proxy does not take a request. Status 0 is HTTP/2's end of the stream.
type refusal struct {
	status int
	why    string
}

func bad(format string, args ...any) *refusal {
	return &refusal{badRequest, fmt.Sprintf(format, args...)}
}

// reading is a request while a proxy reads it.
type reading struct {
	Sent
	host, target string
	said         string // the scheme of a URI that is the target
	path, query  string // behind manager
	upgrade      string
}

func (r *reading) codec() *refusal {
	if r.HTTP == HTTP2 {
		return r.http2()
	}
	return r.http1()
}

// http1 is the order in which Envoy's codec of HTTP/1 looks: the first line, the bytes of the
// head, its lines, what the target is, the version, the host.
func (r *reading) http1() *refusal {
	if first := len(r.Method) + len(r.Target) + blanks - len("\r\n"); first > r.limit() {
		return r.tooLong(r.size())
	}
	if r.Method != connect && !hop.GoodMethod(r.Method) {
		return bad("no proxy of the mesh knows the method %s", r.Method)
	}
	if !possibleTarget(r.Method, r.Target) {
		return bad("the target is neither a path nor a URI")
	}
	if size := r.size(); size > r.limit() {
		return r.tooLong(size)
	}
	if p := r.badLine(); p != nil {
		return p
	}
	if p := r.coding(); p != nil {
		return p
	}
	if p := r.absolute(); p != nil {
		return p
	}
	if r.HTTP == HTTP10 && !r.Takes10 {
		return &refusal{upgradeRequired, "HTTP/1.0 is not spoken"}
	}
	if !hop.PossibleAuthority(r.host) && r.host != "" {
		return bad("the host %q is none", r.host)
	}
	r.upgrade = hop.Upgrade(r.lines(hop.Connection), r.lines(hop.UpgradeTo))
	return nil
}

// coding refuses what says in no single way how long its body is (RFC 9112 section 6).
func (r *reading) coding() *refusal {
	codings := r.lines("transfer-encoding")
	switch {
	case len(codings) == 0:
		return nil
	case len(r.lines("content-length")) > 0 && (r.Method != connect || strings.Join(r.lines("content-length"), ",") != "0"):
		return bad("content-length and transfer-encoding both say how long the body is")
	case len(codings) > 1 || !strings.EqualFold(strings.Trim(codings[0], " \t"), "chunked") || r.Method == connect:
		return &refusal{notImplemented, fmt.Sprintf("the transfer encoding %q is not spoken", strings.Join(codings, ","))}
	}
	return nil
}

// absolute takes a target apart that is more than a path: a URI, or CONNECT's host and port.
func (r *reading) absolute() *refusal {
	switch {
	case r.Method == connect:
		if !uriHost.MatchString(r.Target) || !hop.GoodAuthority(r.Target) || !withPort.MatchString(r.Target) {
			return bad("CONNECT asks for a host and a port, not for %s", r.Target)
		}
		r.host, r.target = r.Target, ""
		return nil
	case strings.HasPrefix(r.Target, "/"), r.Method == options && strings.HasPrefix(r.Target, "*"):
		return nil
	}
	scheme, rest, ok := strings.Cut(r.Target, "://")
	host, path := rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	named, at, isNamed := strings.Cut(host, "@")
	if isNamed { // who is named reaches nobody
		host = at
	}
	if !ok || isNamed && !userinfo.MatchString(named) || !uriHost.MatchString(host) || !hop.GoodAuthority(host) {
		return bad("the target is neither a path nor a URI with a host")
	}
	switch strings.ToLower(scheme) {
	case "http":
	case "https":
		if r.Door == hop.Gateway && !r.TLS && r.Hops == 0 {
			return &refusal{forbidden, "a URI of HTTPS comes by plain HTTP"}
		}
	default:
		return bad("URIs of %s are not for HTTP", scheme)
	}
	r.said, r.host, r.target = strings.ToLower(scheme), host, path
	return nil
}

// uriHost is a URI's host as Envoy's parser takes it, and perhaps a port.
var uriHost = regexp.MustCompile(`^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?$`)

// userinfo is what stands before a URI's host and "@", as Envoy's parser takes it.
var userinfo = regexp.MustCompile(`^[A-Za-z0-9_.!~*'()%;:&=+$,-]*$`)

var withPort = regexp.MustCompile(":[0-9]+$")

// uri is how a target begins that is no path.
var uri = regexp.MustCompile("^[A-Za-z]+://")

// scheme is at a gateway how the request comes, or what proxies in front of it say that it
// believes; at a sidecar what the target says, else what the sender does of the visitor's
// request, else how it comes.
func (r *reading) scheme() string {
	said := r.lines("x-forwarded-proto")
	if s := strings.ToLower(strings.Join(slices.DeleteFunc(said, func(v string) bool { return v == "" }), ",")); r.Hops > 0 && (s == "http" || s == "https") {
		return s
	}
	if r.TLS {
		return "https"
	}
	if r.Door == hop.Gateway {
		return "http"
	}
	if r.said == "" && r.HTTP != HTTP2 && len(said) == 1 && strings.EqualFold(said[0], "https") {
		return "https"
	}
	return cmp.Or(r.said, "http")
}

// client is what the last proxy but Hops-1 has written behind all that came before, if it is an
// address.
func (r *reading) client() netip.Addr {
	lines := slices.DeleteFunc(r.lines("x-forwarded-for"), func(v string) bool { return v == "" })
	told := strings.Split(strings.Join(lines, ","), ",")
	at := len(told) - int(r.Hops)
	if r.Hops == 0 || at < 0 {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(strings.Trim(told[at], " \t"))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a
}

// possibleTarget reports whether Envoy's parser reads a target at all, before it looks at the
// lines of the head: by its first characters, by those where a host stands, and by none of them
// being outside of ASCII.
func possibleTarget(method, target string) bool {
	if strings.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return false
	}
	if strings.HasPrefix(target, "/") || strings.HasPrefix(target, "*") {
		return true
	}
	if method != connect {
		scheme := uri.FindString(target)
		if scheme == "" {
			return false
		}
		target = target[len(scheme):]
	}
	if i := strings.IndexAny(target, "/?"); i >= 0 {
		target = target[:i]
	}
	return readHost.MatchString(target) && !strings.Contains(target, "@@")
}

// readHost is what Envoy's parser reads where a target's host stands, of which uriHost takes less.
var readHost = regexp.MustCompile(`^[A-Za-z0-9!$%&'()*+,.:;=@\[\]_~-]*$`)

// http2 ends the stream of what is malformed (RFC 9113 section 8.1.1).
func (r *reading) http2() *refusal {
	reset := func(format string, args ...any) *refusal { return &refusal{0, fmt.Sprintf(format, args...)} }
	if !hop.Token(r.Method) {
		return reset("the method is no word")
	}
	if size := r.size(); size > r.limit() {
		return reset("%s", r.tooLong(size).why)
	}
	if p := r.badLine(); p != nil {
		return reset("%s", p.why)
	}
	protocol := r.lines(":protocol")
	if r.tunnel() {
		r.target = ""
	} else if why := badTarget(r.Method, r.Target); why != "" {
		return reset("%s", why)
	}
	hosts := r.lines("host")
	if len(hosts) > 1 {
		return reset("there are several hosts")
	}
	if r.host != "" { // it counts, but what stands beside it has to be a host, too
		hosts = append(hosts, r.host)
	}
	for _, host := range hosts {
		if !hop.PossibleAuthority(host) || strings.Contains(host, "@") {
			return reset("the host %q is none", host)
		}
	}
	if r.Method == connect && len(protocol) == 1 {
		r.Method, r.upgrade = "GET", strings.ToLower(protocol[0]) // so it is passed on (RFC 8441)
	}
	return nil
}

// tunnel reports whether this is HTTP/2's CONNECT, which has neither scheme nor path.
func (r *reading) tunnel() bool {
	return r.Method == connect && len(r.lines(":protocol")) == 0
}

// badTarget says what is wrong with ":path".
func badTarget(method, target string) string {
	if method == options && target == "*" {
		return ""
	}
	if !strings.HasPrefix(target, "/") {
		return "over HTTP/2 the target is a path"
	}
	if strings.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return "the target has a character that none may have"
	}
	return ""
}

// manager makes one spelling of the path. What has none ("*", and CONNECT) no route takes.
func (r *reading) manager() *refusal {
	if !strings.HasPrefix(r.target, "/") {
		what := "the request has no path"
		if r.Method == connect {
			what = "CONNECT is not spoken"
		}
		return &refusal{unrouted, what + ", and routes take paths only"}
	}
	if asked := strings.Trim(strings.Join(r.lines(hop.UpgradeTo), ","), " \t"); r.upgrade == connectUDP || strings.EqualFold(asked, connectUDP) {
		return &refusal{unrouted, connectUDP + " is for proxies that carry datagrams, and no route takes it"}
	}
	target := r.target
	if r.HTTP == HTTP2 {
		target = escaped(target)
	}
	path, ok := Normalise(target)
	if !ok {
		return bad("the path can be read in two ways, or is none")
	}
	r.path = path
	_, r.query, _ = strings.Cut(r.target, "?")
	return nil
}

// escaped is a target without characters beyond ASCII, which HTTP/2 lets through.
func escaped(target string) string {
	var b strings.Builder
	for i := range len(target) {
		if c := target[i]; c >= 0x80 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// routes are the first of every host: they answer 400, and 403 to who wants another protocol.
func (r *reading) routes() *refusal {
	var p *refusal
	switch {
	case r.host != "" && !hop.GoodAuthority(WithoutDot(r.host)):
		p = bad("the host %q is none, or several", r.host)
	case !hop.GoodMethod(r.Method):
		p = bad("no proxy of the mesh knows the method %s", r.Method)
	case slices.ContainsFunc(r.lines("content-length"), func(v string) bool { return !hop.GoodLength(v) }):
		p = bad("the length is none, or too long for HTTP/2")
	case strings.ContainsFunc(r.query, func(c rune) bool { return c >= 0x80 }):
		p = bad("the query has characters beyond ASCII, which HTTP/1 does not carry")
	case !Stable(r.path):
		p = bad("the next proxy would read the path in another way")
	}
	if p != nil && r.upgrade != "" {
		return &refusal{forbidden, p.why + ", and no connection changes to " + r.upgrade}
	}
	return p
}

// connectUDP is the protocol of RFC 9298. Envoy goes by the name of the protocol, whether the connection is
// to change or not.
const connectUDP = "connect-udp"

// lines are the values of a header's lines.
func (s Sent) lines(name string) []string {
	var out []string
	for _, h := range s.Headers {
		if strings.EqualFold(h.Name, name) {
			out = append(out, h.Value)
		}
	}
	return out
}

// limit is how many bytes of head the door takes.
func (r *reading) limit() int { return int(hop.At(r.Door).HeaderKiB) << 10 }

func (r *reading) tooLong(size int) *refusal {
	return &refusal{headTooLarge, fmt.Sprintf("the head has %d bytes, and %d are taken", size, r.limit())}
}

// Bytes of a head over HTTP/1.1 beside its words, written without superfluous blanks.
const (
	blanks  = len("  HTTP/1.1\r\n") + len("\r\n")
	perLine = len(": \r\n")
)

// size is the bytes of the head: over HTTP/1 as they are sent, over HTTP/2 those of the names
// and values that a proxy keeps, with what the request line says.
func (r *reading) size() int {
	if r.HTTP != HTTP2 {
		n := len(r.Method) + len(r.Target) + blanks + len("host") + len(r.Host) + perLine
		for _, h := range r.Headers {
			n += len(h.Name) + len(h.Value) + perLine
		}
		return n
	}
	n := len(":method") + len(r.Method) + len(":authority") + len(r.Host)
	if !r.tunnel() {
		n += len(":scheme") + len("http") + len(":path") + len(r.Target)
		if r.TLS {
			n++
		}
	}
	for name, values := range r.kept() {
		if name == cookie {
			n += len(joinedCookie(values))
			continue
		}
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return n
}

// cookie is the header that HTTP/2 may take apart (RFC 9113 section 8.2.3). Envoy counts
// each piece as a line, and of bytes those of the value that it makes of them.
const cookie = "cookie"

func joinedCookie(pieces []string) (value string) {
	for _, piece := range pieces {
		if value != "" {
			value += "; "
		}
		value += piece
	}
	return value
}

// kept are the lines of each header (lower case) as a proxy keeps them.
func (r *reading) kept() map[string][]string {
	out := map[string][]string{}
	for _, h := range r.Headers {
		name := strings.ToLower(h.Name)
		out[name] = append(out[name], h.Value)
	}
	for name, values := range out {
		if isOne(name) && len(values) > 1 {
			out[name] = []string{strings.Join(slices.DeleteFunc(values, func(v string) bool { return v == "" }), ",")}
		}
	}
	return out
}

// isOne reports whether Envoy 1.40 keeps a header as one line, of those that no route ever
// sees, too.
func isOne(name string) bool {
	return space.Joined(name) || slices.Contains([]string{
		"x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "expect", "te", hop.Connection, "keep-alive", "proxy-connection", hop.UpgradeTo,
		"x-envoy-attempt-count", "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node", "x-envoy-expected-rq-timeout-ms",
		"x-envoy-external-address", "x-envoy-force-trace", "x-envoy-hedge-on-per-try-timeout", "x-envoy-ip-tags", "x-envoy-is-timeout-retry", "x-envoy-max-retries",
		"x-envoy-original-host", "x-envoy-original-path", "x-envoy-original-url", "x-envoy-retriable-header-names", "x-envoy-retriable-status-codes", "x-envoy-retry-grpc-on",
		"x-envoy-retry-on", "x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response", "x-envoy-upstream-rq-timeout-ms",
		"x-envoy-upstream-stream-duration-ms",
	}, name)
}

// badLine is what is wrong with the first header line that has something wrong, and with the
// first beyond those that the door takes.
func (r *reading) badLine() *refusal {
	limit, seen := int(hop.At(r.Door).HeaderLines), len([]string{"host"})
	if r.HTTP == HTTP2 {
		seen = len([]string{":method", ":scheme", ":path", ":authority"})
		if r.tunnel() {
			seen = len([]string{":method", ":authority"})
		}
	}
	met := map[string]bool{}
	for _, h := range r.Headers {
		if why := r.badHeader(strings.ToLower(h.Name), h.Value); why != "" {
			return bad("%s", why)
		}
		name := strings.ToLower(h.Name)
		if name == "content-length" && met[name] {
			return bad("content-length stands there twice")
		}
		if !met[name] || !isOne(name) || r.HTTP == HTTP2 && name == cookie {
			met[name] = true
			seen++
		}
		if seen > limit {
			return &refusal{headTooLarge, fmt.Sprintf("the head has more than %d lines", limit)}
		}
	}
	return nil
}

// badHeader says what is wrong with a header (lower case), "" for nothing.
func (r *reading) badHeader(name, value string) string {
	switch {
	case r.HTTP == HTTP2 && (name == ":protocol" || name == ":scheme"):
	case !hop.Token(name):
		return fmt.Sprintf("%q is no header's name", name)
	case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
		return "the value of " + name + " has a control character"
	case r.Door == hop.Gateway && strings.Contains(name, "_"):
		return name + " and its spelling with dashes are one header to many applications"
	case name == "content-length" && !hop.Number(value):
		return "the length is no number"
	case r.HTTP == HTTP2 && (hop.OfHTTP1(name) || name == "te" && value != "trailers"):
		return name + " is about a connection of HTTP/1"
	}
	return ""
}

// withoutNamed takes away what "connection" calls a header of this connection (RFC 9110
// section 7.6.1).
func withoutNamed(hs []space.Header) []space.Header {
	var named []string
	for _, h := range hs {
		if strings.EqualFold(h.Name, hop.Connection) {
			for t := range strings.SplitSeq(h.Value, ",") {
				named = append(named, strings.ToLower(strings.Trim(t, " \t")))
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(hs), func(h space.Header) bool { return slices.Contains(named, strings.ToLower(h.Name)) })
}

// wholeCookie puts the pieces of HTTP/2's cookie together, as a proxy does before anything
// looks at it; of nothing but empty pieces nothing is left.
func wholeCookie(hs []space.Header) []space.Header {
	is := func(h space.Header) bool { return strings.EqualFold(h.Name, cookie) }
	var pieces []string
	for _, h := range hs {
		if is(h) {
			pieces = append(pieces, h.Value)
		}
	}
	if len(pieces) == 0 {
		return hs
	}
	out := slices.DeleteFunc(slices.Clone(hs), is)
	if value := joinedCookie(pieces); value != "" {
		out = append(out, space.Header{Name: cookie, Value: value})
	}
	return out
}

// trimmed are the header lines without blanks around their values, which are none of the
// value over HTTP/1.
func trimmed(s Sent) []space.Header {
	if s.HTTP == HTTP2 {
		return wholeCookie(s.Headers)
	}
	out := slices.Clone(s.Headers)
	for i := range out {
		out[i].Value = strings.Trim(out[i].Value, " \t")
	}
	return out
}

// withoutReturns are the lines as Envoy's codec of HTTP/1 reads them: it leaves out a carriage return
// that ends none.
func withoutReturns(lines []space.Header) []space.Header {
	out := lines
	for i, h := range lines {
		if strings.Contains(h.Value, "\r") {
			if &out[0] == &lines[0] {
				out = slices.Clone(lines)
			}
			out[i].Value = strings.Trim(strings.ReplaceAll(h.Value, "\r", ""), " \t")
		}
	}
	return out
}

// joinedHosts is the host as Envoy has it: over HTTP/1 further Host lines are joined, over
// HTTP/2 ":authority" is all that counts.
func joinedHosts(s Sent) string {
	hosts := []string{s.Host}
	if s.HTTP != HTTP2 {
		hosts = append(hosts, s.lines("host")...)
	}
	return strings.Join(slices.DeleteFunc(hosts, func(h string) bool { return h == "" }), ",")
}
