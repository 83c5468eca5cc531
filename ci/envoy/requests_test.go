package envoy

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/draw"
	"meshc.dev/meshc/internal/hop"
)

// proxied are headers that proxies set, replace or read, beside those of conditions.
func proxied() []string {
	return []string{"host", "x-forwarded-proto", "x-envoy-foo", "x-envoy-retry-on", "x-request-id", "x-forwarded-client-cert", "server"}
}

// request draws a request that is worth trying: one that a rule of the mesh takes, or is near
// to taking.
func (d *asker) request() compiler.Request {
	r := d.door()
	r.Method, r.Path, r.Host = pick(d, append(draw.Methods(), "X-OWN", "get", "M-SEARCH", "CONNECT")...), d.target(), d.host()
	if x := d.external(r.To); x != nil { // with explicit capture all would arrive there
		r.Host = x.Hosts[0]
	} else if !strings.HasPrefix(r.To, "gateway/") && d.chance(90) {
		r.Host = d.called(r.To)
	}
	if name, is := strings.CutPrefix(r.To, "gateway/"); is && d.chance(20) && slices.ContainsFunc(d.mesh.Gateways, func(g draw.Door) bool { return g.ID == name && slices.Contains(g.Hosts, draw.WhoHost) }) {
		r.Host = draw.WhoHost
	}
	if d.chance(60) {
		r.Method = "GET"
	}
	if d.chance(55) {
		d.toward(&r)
	}
	r.Path = d.odd(r.Path)
	d.lines(&r)
	if d.chance(10) {
		r.Path = d.spelt(r.Path)
	}
	if d.chance(35) && !strings.ContainsAny(r.Path, "?#") {
		r.Path += "?" + d.parameters()
	}
	if d.chance(15) {
		d.preflight(&r)
	} else if d.chance(20) {
		d.page(&r)
	}
	if strings.HasPrefix(r.To, "gateway/") { // between the proxies of a rehearsal there is no address
		r.Source = compiler.RehearsedAddress
	}
	if r.Port == "raw" {
		r.Path, r.Headers, r.Method, r.Host = "", nil, "", ""
	}
	return r
}

// door is who asks whom.
func (d *asker) door() compiler.Request {
	switch {
	case d.chance(35):
		g := pick(d, d.mesh.Gateways...)
		if slices.Contains(g.Ports, "raw") && d.chance(12) {
			return compiler.Request{To: "gateway/" + g.ID, Port: "raw"}
		}
		return compiler.Request{To: "gateway/" + g.ID}
	case d.chance(12):
		x := pick(d, d.mesh.Externals...)
		return compiler.Request{To: x.ID, From: pick(d, d.mesh.Services...).ID, Port: pick(d, x.Ports...)}
	}
	s := pick(d, d.mesh.Services...)
	return compiler.Request{To: s.ID, From: d.caller(), Port: pick(d, s.Ports...)}
}

// external is the external of that ID, nil for what is none.
func (d *asker) external(id string) *draw.Door {
	for i := range d.mesh.Externals {
		if d.mesh.Externals[i].ID == id {
			return &d.mesh.Externals[i]
		}
	}
	return nil
}

// toward has a request pass what a rule of its destination tests.
func (d *asker) toward(r *compiler.Request) {
	kind, id := "service", r.To
	if name, ok := strings.CutPrefix(r.To, "gateway/"); ok {
		kind, id = "gateway", name
	} else if d.external(id) != nil {
		kind = "external"
	}
	port := r.Port
	if r.Host == draw.WhoHost {
		port = r.Host
	}
	q := d.mesh.Toward(d.Rand, kind, id, port)
	r.Headers, r.Users = append(r.Headers, q.Headers...), q.Users
	if q.Method != "" {
		r.Method = q.Method
	}
	if _, err := url.ParseRequestURI(q.Path); err == nil { // else no application of a rehearsal reads it
		r.Path = q.Path
	}
	if q.Host != "" && kind == "gateway" {
		r.Host = q.Host
	}
	if q.Client != "" && kind == "gateway" { // which counts where a proxy in front is believed
		r.Headers = append(r.Headers, compiler.Header{Name: "x-forwarded-for", Value: q.Client})
	}
	if q.Query != "" {
		r.Path += "?" + q.Query
	}
	if workload.MatchString(q.From) && kind == "service" && d.chance(80) {
		r.From = q.From
	}
}

// workload is an identity that a proxy can have.
var workload = regexp.MustCompile(`^spiffe://mesh\.test/ns/[a-z0-9]+/sa/[a-z0-9-]+$`)

// lines adds header lines, one of them perhaps twice.
func (d *asker) lines(r *compiler.Request) {
	for _, n := range append(some(d, slices.Concat(draw.HeaderNames(), proxied()))[:1], "x-a", "x-b", "end-user") {
		if d.chance(20) {
			for range pick(d, 1, 1, 1, 2) {
				r.Headers = append(r.Headers, compiler.Header{Name: strings.ToLower(n), Value: pick(d, draw.HeaderValues()...)})
			}
		}
	}
	for d.chance(20) { // several lines, with several each
		line := pick(d, draw.CookieNames()...) + pick(d, "=", "=", " = ") + pick(d, draw.CookieValues()...)
		for d.chance(40) {
			line += pick(d, "; ", ";", " ;") + pick(d, draw.CookieNames()...) + "=" + pick(d, draw.CookieValues()...)
		}
		r.Headers = append(r.Headers, compiler.Header{Name: "cookie", Value: line})
	}
	hosts := d.chance(10) // a second Host hides everything else
	r.Headers = slices.DeleteFunc(r.Headers, func(h compiler.Header) bool {
		// For a request that is from no scheme Envoy finds no route at all.
		return h.Name == "host" && !hosts || h.Name == "x-forwarded-proto" && h.Value == ""
	})
}

// signed gives a request the token of a user: of one whom its destination knows, or of anybody.
func (d *asker) signed(r compiler.Request) compiler.Request {
	if all := d.mesh.Program.Providers(); len(r.Users) == 0 && len(all) > 0 && d.chance(50) {
		r.Users = []compiler.User{{Provider: pick(d, all...).ID, Token: pick(d, compiler.SignedIn, compiler.SignedIn, compiler.SignedIn, compiler.OtherAudience, compiler.BadToken)}}
	}
	if r.Port == "raw" || len(r.Users) == 0 {
		r.Users = nil
		return r
	}
	r.Users = slices.Clone(r.Users[:1])
	if r.Users[0].Token == compiler.SignedIn && len(r.Users[0].Claims) == 0 {
		for range d.IntN(4) {
			r.Users[0].Claims = append(r.Users[0].Claims, compiler.Claim{Name: pick(d, draw.Claims()...), Value: pick(d, draw.ClaimTexts()...)})
		}
	}
	once := map[string]bool{}
	r.Users[0].Claims = slices.DeleteFunc(slices.Clone(r.Users[0].Claims), func(c compiler.Claim) bool {
		twice := once[c.Name] && c.Name == "sub" // of which a token has one
		once[c.Name] = true
		return twice
	})
	return d.issuer.carries(d.mesh.Program, r)
}

// form gives a request one of the forms that a proxy may answer by itself. Most are still
// requests like any other.
func (d *asker) form(r compiler.Request) compiler.Request {
	if r.Port == "raw" {
		return r
	}
	if strings.HasPrefix(r.To, "gateway/") && d.secured() {
		r.Port = pick(d, "", "http", "https", "https")
	}
	if strings.HasPrefix(r.To, "gateway/") {
		r.Certificate = pick(d, "", compiler.TrustedCertificate, compiler.TrustedCertificate, compiler.TrustedCertificate, compiler.OtherCertificate)
	}
	r = d.shape(r)
	if r.Port != "" && (d.chance(15) || !plainHost.MatchString(r.Host)) && strings.HasPrefix(r.To, "gateway/") {
		names := append([]string{"front.test", "other.test", "c.shop.test"}, d.hosts...)
		r.ServerName = strings.Replace(pick(d, names...), "*", "any", 1)
	}
	return r
}

// shape writes a request in the version and form that it has.
func (d *asker) shape(r compiler.Request) compiler.Request {
	if d.chance(30) {
		r.HTTP = pick(d, compiler.HTTP2, compiler.HTTP2, compiler.HTTP2, compiler.HTTP2, compiler.HTTP10)
	}
	put := func(name string, values ...string) {
		r.Headers = append(r.Headers, compiler.Header{Name: name, Value: pick(d, values...)})
	}
	if strings.HasPrefix(r.To, "gateway/") && d.chance(25) { // what proxies in front of it say, or who pretends to be one
		put("x-forwarded-proto", "https", "https", "https", "HTTPS", "http", "https,http", "ftp", "")
		for range pick(d, 1, 1, 2, 0) {
			put("x-forwarded-for", "203.0.113.9", "192.0.2.66, 203.0.113.9", "2001:db8::9,198.51.100.1", "203.0.113.9:80", "unknown", "", "203.0.113.9,")
		}
	}
	if d.chance(40) || d.external(r.To) != nil {
		return r
	}
	switch d.IntN(14) {
	case 12:
		put("transfer-encoding", "chunked", "chunked", "Chunked", "gzip, chunked", "identity", "")
		if d.chance(25) {
			put("content-length", "0", "3")
		}
	case 13:
		if d.chance(25) {
			put("expect", "100-continue", "100-Continue")
			break
		}
		put("referer", "https://a.test/x?y", "https://a.test", "http://me@a.test/", "/x#y", "/x", "a:b", "x/a:b", "https://a.test:99999/", "https://a.test/é")
	case 10, 11:
		d.socket(&r)
	case 0:
		r.Path = pick(d, "http", "http", "http", "HTTP", "https", "ftp", "ws") + "://" + pick(d, "", "", "", "me@", "me:word@", "@") + r.Host + r.Path
		r.Host = pick(d, r.Host, d.host())
	case 1:
		r.Method, r.Path = pick(d, "OPTIONS", "OPTIONS", "GET", "POST"), pick(d, "*", "*", "*", "**", "*?q", "*#f", "", "?q=1", "a", "a/b", "http:", "http://", "http:/a")
	case 2:
		r.Method, r.Path = "CONNECT", pick(d, r.Host, r.Host+":80", r.Host+":443", r.Path, "http://"+r.Host+"/")
	case 3: // lines that stay apart, and such as become one
		name := pick(d, "x-a", "x-b", "end-user", "cookie", "accept", "via", "authorization", "x-forwarded-host", "set-cookie")
		for range 2 + d.IntN(3) {
			put(name, draw.HeaderValues()...)
		}
	case 4:
		put("connection", "x-a", "X-B, end-user", "close, x-a", "cookie", "keep-alive", "close", "te, x-a", "origin", "")
	case 5:
		put("connection", "Upgrade", "upgrade", "keep-alive, Upgrade", "x-a, upgrade")
		for range pick(d, 1, 1, 1, 1, 2, 0) {
			put("upgrade", "h2c", "x", "websocket, x")
		}
	case 6:
		d.fill(&r)
	case 7:
		if d.chance(25) {
			put("x-forwarded-proto", "https", "HTTPS", "http")
			break
		}
		put(pick(d, "x-c", "user-agent", "x-under_score", "content-length", "te", "keep-alive", "upgrade", "transfer_encoding"), "0", "trailers", "a", "", "00")
	case 8:
		put(pick(d, "x-c", "cookie", "X-B"), "tab\there", "nothing\x01", "\x7f", "é", "a\"b", " blanks ")
	default:
		put("content-length", "0", "000", "x", "-0", "0,0", "18446744073709551616")
	}
	return r
}

// socket makes a request one for a WebSocket (RFC 6455; over HTTP/2, RFC 8441).
func (d *asker) socket(r *compiler.Request) {
	r.Method = "GET"
	if r.HTTP == compiler.HTTP2 {
		r.Method, r.Headers = "CONNECT", append(r.Headers, compiler.Header{Name: ":protocol", Value: "websocket"})
	} else {
		r.Headers = append(r.Headers, compiler.Header{Name: "connection", Value: "Upgrade"}, compiler.Header{Name: "upgrade", Value: "websocket"})
	}
	r.Headers = append(r.Headers, compiler.Header{Name: "sec-websocket-version", Value: "13"}, compiler.Header{Name: "sec-websocket-key", Value: "dGhlIHNhbXBsZSBub25jZQ=="})
}

// plainHost is a host that can be asked for by SNI as it is.
var plainHost = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.-]*(:[0-9]+)?$`)

// fill makes the head of a request as large as its door takes, or a little less or more.
func (d *asker) fill(r *compiler.Request) {
	l := hop.At(hop.Outbound)
	if strings.HasPrefix(r.To, "gateway/") {
		l = hop.At(hop.Gateway)
	}
	if d.chance(50) {
		for i := range int(l.HeaderLines) + d.IntN(6) - 6 - len(r.Headers) {
			r.Headers = append(r.Headers, compiler.Header{Name: fmt.Sprintf("x-n%d", i), Value: "1"})
		}
		return
	}
	size := int(l.HeaderKiB)<<10 + d.IntN(9) - 4 - len(r.Method+r.Path+r.Host) - len("  HTTP/1.1\r\nhost: \r\n\r\n") - len("x-fill: \r\n")
	if r.HTTP == compiler.HTTP2 {
		size = int(l.HeaderKiB)<<10 + d.IntN(9) - 4 - len(r.Method+r.Path+r.Host) - len(":method:path:authority:schemehttp") - len("x-fill")
	}
	for _, h := range r.Headers {
		size -= len(h.Name) + len(h.Value)
		if r.HTTP != compiler.HTTP2 {
			size -= len(": \r\n")
		}
	}
	r.Headers = append(r.Headers, compiler.Header{Name: "x-fill", Value: strings.Repeat(pick(d, "a", "{"), size)})
}

// preflight makes a browser's question of a request, or something like one.
func (d *asker) preflight(r *compiler.Request) {
	if d.chance(80) {
		r.Method = "OPTIONS"
	}
	put := func(name string, values ...string) {
		for range pick(d, 1, 1, 1, 1, 2, 0) {
			r.Headers = append(r.Headers, compiler.Header{Name: name, Value: pick(d, values...)})
		}
	}
	put("origin", append(draw.Origins(), "https://b.a.test", "https://a_b.a.test", "https://.a.test", "https://xa.test", "null", "", "HTTPS://a.test", "https://a.test/")...)
	put("access-control-request-method", "PUT", "PUT", "GET", "")
}

// page lets a request come from one, or from something like one.
func (d *asker) page(r *compiler.Request) {
	for _, name := range []string{"origin", "referer"} {
		for range pick(d, 0, 1, 1, 2) {
			page := pick(d, append(draw.Origins(), "https://b.a.test", "http://shop.test", "https://a.shop.test:8443", "https://shop.test:x", "https://a_b.a.test", "https://evil.test", "null", "")...)
			if name == "referer" {
				page += pick(d, "/", "/a?b=https://a.test/", "", "\xe9/")
			}
			r.Headers = append(r.Headers, compiler.Header{Name: name, Value: page})
		}
	}
}

// parameters are what may follow a path's "?", parameters that no condition names and odd
// spellings among them.
func (d *asker) parameters() string {
	var parts []string
	for range 1 + d.IntN(4) {
		name, value := pick(d, append(draw.QueryNames(), "other", "")...), pick(d, draw.QueryValues()...)
		parts = append(parts, pick(d, name+"="+value, name+"="+value, name, value, "="+value))
	}
	return strings.Join(parts, "&")
}

// caller is a service, a gateway, a workload that nobody has declared, or nobody.
func (d *asker) caller() string {
	switch {
	case d.chance(25):
		return ""
	case d.chance(10):
		return "gateway/" + pick(d, d.mesh.Gateways...).ID
	case d.chance(10):
		return "spiffe://mesh.test/ns/" + pick(d, "alpha", "alphabet", "beta") + "/sa/stranger"
	}
	return pick(d, d.mesh.Services[:3]...).ID
}

func segments() []string {
	return []string{"a", "b", "items", "A", "x.y", "b-c", "~t", "a;p", "a:b", "a@b", "%20", "a%2Cb", "a=b", "$"}
}

// target is a path at or near a condition's.
func (d *asker) target() string {
	if len(d.paths) == 0 || d.chance(10) {
		return pick(d, "/", "/a", "/a/b/c", "/zzz")
	}
	p := pick(d, d.paths...)
	switch {
	case d.chance(20):
		p += "/" + pick(d, segments()...)
	case d.chance(10):
		p += "x"
	case d.chance(10):
		p += "/"
	}
	return p
}

// odd writes a path in a way that must not make a difference, or must be refused.
func (d *asker) odd(p string) string {
	if d.chance(50) {
		return p
	}
	at := strings.LastIndexByte(p, '/')
	switch d.IntN(24) {
	case 0:
		return p[:at] + "//" + p[at+1:]
	case 1:
		return p[:at] + "/./" + p[at+1:]
	case 2:
		return p[:at] + "/zz/../" + p[at+1:]
	case 3:
		return p[:at] + "/zz/%2e%2E/" + p[at+1:]
	case 4:
		return p[:at] + "%2F" + p[at+1:]
	case 5:
		return p[:at] + "%5c" + p[at+1:]
	case 6:
		return p[:at] + "\\" + p[at+1:]
	case 7:
		return strings.ReplaceAll(p, "a", "%61")
	case 8:
		return strings.ToUpper(p)
	case 9:
		return p + "?q=1"
	case 10:
		return p + "?"
	case 11:
		return p + "?q=/../x//y%2f"
	case 12:
		return p + "#frag"
	case 13:
		return p + ";p=1"
	case 14:
		return p + "/%%32e/" + pick(d, segments()...)
	case 15:
		return p + "é"
	case 16:
		return p + "/%20/%C3%A9"
	case 17:
		return p + "/%252e%252e/x"
	case 18:
		return p + pick(d, `"`, "<", ">", "|", "^", "`", "{x}", "%3Cx", "'", "(", "*", "!", ",", "[", "]")
	case 19:
		return p + "/..;/x"
	case 20:
		return p + "/.."
	case 21:
		return "/" + p
	case 22:
		return p + "/x/../../.."
	default:
		return p + "/."
	}
}

// spelt writes a path in a way that proxies leave and applications may fold back.
func (d *asker) spelt(p string) string {
	at := max(0, strings.LastIndexByte(p, '/'))
	switch d.IntN(7) {
	case 0:
		return p[:at] + ";v=1" + p[at:]
	case 1:
		return p[:at] + "/;" + p[at:]
	case 2:
		return p[:at] + "%252f" + p[min(at+1, len(p)):]
	case 3:
		return strings.ReplaceAll(p, "a", "%2561")
	case 4:
		return strings.ReplaceAll(p, "b", "%252562")
	case 5:
		return p + "%253Bx"
	default:
		return p + "/;"
	}
}

// called is a name by which every workload may call a service, in one of its spellings.
func (d *asker) called(service string) string {
	namespace, name, _ := strings.Cut(service, "/")
	host := name + "." + namespace + pick(d, "", "", ".svc", ".svc.cluster.local", ".SVC")
	return host + pick(d, "", "", "", ":80", ".", ".:8080")
}

func (d *asker) host() string {
	h := pick(d, "shop.test", "a.shop.test", "b.a.shop.test", "c.shop.test", "x.y.a.shop.test", "shop.tes", "other.test", "xshop.test", "localhost", "front.test", "front.test")
	if d.chance(40) {
		h = strings.Replace(pick(d, d.hosts...), "*", "any", 1)
	}
	switch d.IntN(10) {
	case 0:
		return strings.ToUpper(h)
	case 1:
		return h + ":8080"
	case 2:
		return h + "."
	case 3:
		return h + ".:80"
	case 4:
		return pick(d, "[::1]:80", "[::1]", "127.0.0.1", "127.0.0.1:1", ".shop.test", "*.shop.test", "shop.test:", "shop.test:x", "shop.test:a@b", "me@shop.test", "shop.test,other.test",
			"shop.test:65535", "shop.test:65536", "shop.test:00080", "[::1", "[::1]x", "[1]", "%73hop.test", "%7", "shop.test:80:80", ".")
	}
	return h
}
