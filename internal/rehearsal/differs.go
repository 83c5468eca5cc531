package rehearsal

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/hop"
)

// Differs compares what the evaluator says of a request with what became of it.
// "" means that they agree: on the destination (one that has a share), the status,
// who answered, the path, and every header line that the mesh edits or the caller
// sent. Delays, retries and copies are not looked at.
func Differs(want compiler.Answer, r compiler.Request, got Reply) string {
	switch {
	case want.Scope.Protocol == "tcp":
		return differsTCP(want, got)
	case want.Reset() || want.Dropped() || got.Reset:
		if (want.Reset() || want.Dropped()) && got.Reset {
			return ""
		}
		return fmt.Sprintf("the evaluator says %s, but there was %s", want.Words(), came(got))
	case got.Seen == nil && slices.Contains(want.MayAnswer(), got.Status):
		return ""
	case want.Handshake:
		return answered(http.StatusServiceUnavailable, got) // of the proxy that the caller has
	case want.Status != 0:
		why := answered(want.Status, got)
		if why == "" && want.Redirects() && !want.AtDoor() {
			return differsLocation(want, r, got)
		}
		if why == "" && want.Answered() {
			return differsAnswer(want, got)
		}
		return why
	}
	if why := differsTarget(want, got); why != "" || got.Seen == nil {
		return why
	}
	return differsSeen(want, r, got)
}

// came is a reply in words.
func came(got Reply) string {
	switch {
	case got.Reset:
		return "no answer"
	case got.Seen != nil:
		return "one of " + got.Seen.Target
	}
	return fmt.Sprintf("a proxy's (%d)", got.Status)
}

// answered demands that a proxy answered with the status.
func answered(status int, got Reply) string {
	if got.Seen != nil {
		return fmt.Sprintf("the evaluator says %d, but the request reached %s", status, got.Seen.Target)
	}
	if got.Status != status {
		return fmt.Sprintf("the evaluator says %d, but a proxy answered %d (%s)", status, got.Status, strings.TrimSpace(got.Text))
	}
	return ""
}

// differsAnswer compares the header lines of a proxy's own answer. Without a body Envoy
// takes its content-type away, and with one it writes one if there is none.
func differsAnswer(want compiler.Answer, got Reply) string {
	o, all := want.Outcome, want.Outcome.Fields
	o.Fields = nil
	for _, f := range all {
		if !strings.HasSuffix(f.Name, " content-type") || got.Text != "" && !strings.HasPrefix(f.Name, "remove") {
			o.Fields = append(o.Fields, f)
		}
	}
	if why := differsHeaders("response-headers", o, map[string][]string{}, got.Headers); why != "" {
		return "at the caller: " + why
	}
	return ""
}

func differsTCP(want compiler.Answer, got Reply) string {
	if !want.Closed {
		return differsTarget(want, got)
	}
	if got.Seen != nil {
		return fmt.Sprintf("the evaluator says %s, but the connection reached %s", want.Words(), got.Seen.Target)
	}
	return ""
}

func differsTarget(want compiler.Answer, got Reply) string {
	for _, s := range want.Outcome.Shares {
		if s.Status != 0 {
			if got.Seen == nil && got.Status == s.Status {
				return ""
			}
		} else if got.Seen != nil && s.Target == got.Seen.Target && s.Weight > 0 {
			return ""
		}
	}
	if got.Seen != nil {
		return fmt.Sprintf("the evaluator says %s, but the request reached %s", want.Words(), got.Seen.Target)
	}
	return fmt.Sprintf("the evaluator says %s, but the answer was %d (%s)", want.Words(), got.Status, strings.TrimSpace(got.Text))
}

// differsLocation compares a redirect with its fields; what has none stays.
func differsLocation(want compiler.Answer, r compiler.Request, got Reply) string {
	lines := got.Headers["location"]
	if len(lines) != 1 {
		return fmt.Sprintf("the redirect has %d locations", len(lines))
	}
	// Taken apart by hand: a host may be any word that a caller has sent.
	rest, haveQuery, _ := strings.Cut(lines[0], "?")
	scheme, rest, _ := strings.Cut(rest, "://")
	host, path, _ := strings.Cut(rest, "/")
	_, query, _ := strings.Cut(orElse(r.Path, "/"), "?")
	expect := map[string]string{"scheme": want.Scheme, "host": strings.ToLower(arrivingHost(want, r)), "path": want.RedirectPath()}
	for _, f := range want.Outcome.Fields {
		if f.Feature == want.Outcome.By && f.Name != "path" {
			expect[f.Name] = f.Value
		}
	}
	if port := expect["port"]; port != "" {
		expect["host"] = withoutPort(expect["host"]) + ":" + port
	} else if by := cameBy(want, r); expect["scheme"] != by { // Envoy takes the old scheme's port along no longer
		expect["host"] = strings.TrimSuffix(expect["host"], map[string]string{"http": ":80", "https": ":443"}[by])
	}
	for name, v := range map[string]string{"scheme": scheme, "host": strings.ToLower(host), "path": "/" + path} {
		if v != expect[name] {
			return fmt.Sprintf("the evaluator says a redirect with the %s %q, but the location is %q", name, expect[name], lines[0])
		}
	}
	if expect["query"] != "" {
		query = ""
	}
	if haveQuery != query {
		return fmt.Sprintf("the redirect's query was %q, but the location is %q", query, lines[0])
	}
	return ""
}

// withoutPort is a host as a redirect keeps it that names another port.
func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i]
	}
	return host
}

// cameBy is the scheme by which a request came to the proxy that redirects it: at a sidecar
// what the sender says of the visitor's (x-forwarded-proto), whatever the target does.
func cameBy(want compiler.Answer, r compiler.Request) string {
	if strings.HasPrefix(r.To, "gateway/") {
		return want.Scheme
	}
	by := "http"
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "x-forwarded-proto") {
			by = h.Value
		}
	}
	return by
}

// arrivingHost is the host that the destination gets.
func arrivingHost(want compiler.Answer, r compiler.Request) string {
	return orElse(want.Authority, hostOf(r))
}

// differsSeen compares the request at the destination, and the response.
func differsSeen(want compiler.Answer, r compiler.Request, got Reply) string {
	seen := got.Seen
	status := http.StatusOK
	if want.Request.Upgrade != "" && r.HTTP != compiler.HTTP2 {
		status = http.StatusSwitchingProtocols
	}
	if got.Status != status {
		return fmt.Sprintf("the application answered %d, but the caller saw %d", status, got.Status)
	}
	if want.Request.Upgrade != "" && got.Echo != greeting {
		return fmt.Sprintf("a WebSocket answered %q to %q", got.Echo, greeting)
	}
	return ofShares(want, seen.Target, func(want compiler.Answer) string {
		if why := differsArrived(want, r, *seen); why != "" {
			return why
		}
		if why := differsHeaders("response-headers", want.Outcome, AppHeaders(), got.Headers, want.Remembered...); why != "" {
			return "at the caller: " + why
		}
		return ""
	})
}

// ofShares compares with what is done to all requests and to those of one share besides: one that
// leads to the target, else any, as of a copy of which nobody knows whose it is.
func ofShares(want compiler.Answer, target string, differs func(compiler.Answer) string) string {
	var own, others []compiler.Answer
	for _, s := range want.Outcome.Shares {
		one := want
		one.Arrives.Host = orElse(compiler.HostTo(s), one.Arrives.Host)
		if one.Outcome.Fields = slices.Concat(want.Outcome.Fields, s.Fields); s.Target == target {
			own = append(own, one)
		} else {
			others = append(others, one)
		}
	}
	if len(own) == 0 {
		own = others
	}
	if len(own) == 0 {
		own = append(own, want)
	}
	why := ""
	for _, one := range own {
		if why = differs(one); why == "" {
			break
		}
	}
	return why
}

// token is a query that is a token (JWT), which goes no further than to who looks at it.
var token = regexp.MustCompile(`\?[^&=]*=eyJ[^&]*$`)

// DiffersSeen compares what the evaluator says of a request on its way with the request, or a
// copy of it, as an application saw it.
func DiffersSeen(want compiler.Answer, r compiler.Request, seen Seen) string {
	return ofShares(want, seen.Target, func(want compiler.Answer) string { return differsArrived(want, r, seen) })
}

func differsArrived(want compiler.Answer, r compiler.Request, seen Seen) string {
	if seen.Method != want.Request.Method {
		return fmt.Sprintf("the method %s arrived as %s", want.Request.Method, seen.Method)
	}
	path := want.Arrives.Path
	target := r.Path
	if r.HTTP != compiler.HTTP2 {
		target = strings.Trim(target, " \t\r") // blanks end the words of the first line
	}
	if _, query, ok := strings.Cut(target, "?"); ok {
		path += "?" + query
	}
	if seen.Path != path && seen.Path != token.ReplaceAllString(path, "") {
		return fmt.Sprintf("the evaluator says the path %q, but %q arrived", path, seen.Path)
	}
	if host := orElse(want.Arrives.Host, arrivingHost(want, r)); seen.Host != host {
		return fmt.Sprintf("the host %q arrived as %q", host, seen.Host)
	}
	if strings.HasPrefix(r.To, "gateway/") {
		if why := differsVisitor(want, seen); why != "" {
			return why
		}
	}
	sent := map[string][]string{}
	for _, h := range want.Request.Headers {
		sent[h.Name] = append(sent[h.Name], h.Value)
	}
	takeAway(sent, want.Outcome)
	unknown := slices.DeleteFunc(slices.Sorted(maps.Keys(sent)), func(name string) bool { return !want.IsPersonal(name) })
	if why := differsHeaders("request-headers", want.Outcome, sent, seen.Headers, append(unknown, want.Personal...)...); why != "" {
		return "at the destination: " + why
	}
	return ""
}

// takeAway takes from what was sent the headers that are removed before anybody writes them, in all their spellings.
func takeAway(sent map[string][]string, by compiler.Outcome) {
	for _, f := range by.Fields {
		if f.Feature != "users" && f.Feature != "authorize" || f.Name != "removes" {
			continue
		}
		for name := range strings.SplitSeq(f.Value, ", ") {
			sent[name] = nil
			for header := range sent {
				if hop.Spells(header, name) {
					sent[header] = nil
				}
			}
		}
	}
}

// differsVisitor compares what those behind a gateway are told of a visitor: one scheme, and one
// address.
func differsVisitor(want compiler.Answer, seen Seen) string {
	if by := seen.Headers["x-forwarded-proto"]; len(by) != 1 || by[0] != want.Scheme {
		return fmt.Sprintf("the evaluator says that the visitor came by %s, but x-forwarded-proto is %q", want.Scheme, by)
	}
	for _, f := range want.Outcome.Fields {
		if f.Feature == "request-headers" && strings.HasSuffix(f.Name, " x-forwarded-for") {
			return "" // the route has edited it, which is compared with all other edits
		}
	}
	clients := seen.Headers["x-forwarded-for"]
	if len(clients) == 1 {
		if a, err := netip.ParseAddr(clients[0]); err == nil && (want.Client == "" || a.String() == want.Client) {
			return ""
		}
	}
	return fmt.Sprintf("the evaluator says that the visitor has the address %q (\"\": the connection's), but x-forwarded-for is %q", want.Client, clients)
}

// differsHeaders applies the edits of one feature to the lines that were sent and
// compares each name among them with what arrived, lines in their order, but for those of which nobody knows.
func differsHeaders(feature string, o compiler.Outcome, sent, arrived map[string][]string, unknown ...string) string {
	expect, added := maps.Clone(sent), map[string]int{}
	for _, how := range []string{"remove", "set", "add"} {
		for _, f := range o.Fields {
			what, name, _ := strings.Cut(f.Name, " ")
			if f.Feature != feature || what != how || (how == "add" && othersAdd(feature, name)) {
				continue
			}
			switch how {
			case "remove":
				expect[name] = nil
			case "set":
				expect[name] = []string{f.Value}
			default:
				expect[name], added[name] = append(slices.Clip(expect[name]), f.Value), added[name]+1
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(expect)) {
		if slices.Contains(unknown, name) {
			continue
		}
		want, got := lines(name, expect[name]), lines(name, arrived[name])
		if added[name] > 1 { // fields are a set: in which order two routes add lines is not among them
			want, got = slices.Sorted(slices.Values(expect[name])), slices.Sorted(slices.Values(apart(feature, name, arrived[name])))
		}
		if !slices.Equal(want, got) {
			return fmt.Sprintf("the evaluator says %s: %q, but there is %q", name, expect[name], arrived[name])
		}
	}
	return ""
}

// apart is the lines of a header as two routes added them. Those that Envoy keeps as one line
// have to arrive on one, joined by commas, which means the same (RFC 9110 section 5.3).
func apart(feature, name string, arrived []string) []string {
	one := len(compiler.HeaderLines(name, []string{"a", "b"})) == 1
	if feature == "response-headers" {
		one = slices.Contains([]string{"access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin", "access-control-expose-headers",
			"access-control-max-age", "age", "cache-control", "content-encoding", "content-type", "etag", "expires", "grpc-message", "grpc-status", "last-modified", "location", "proxy-status", "server", "vary", "via"}, name)
	}
	switch {
	case !one:
		return arrived
	case len(arrived) != 1:
		return nil
	}
	return strings.Split(arrived[0], ",")
}

// othersAdd reports whether a header has lines beside those that were sent and added: proxies
// add to the one, applications to the other.
func othersAdd(feature, name string) bool {
	return name == "x-forwarded-for" || feature == "response-headers" && name == "date"
}

// lines is a header as it may be written in several ways: what HTTP/2 carries may have blanks
// around it, which HTTP/1 takes away.
func lines(name string, ls []string) []string {
	ls = slices.Clone(ls)
	for i := range ls {
		ls[i] = strings.Trim(ls[i], " \t")
	}
	if name != "cookie" {
		return compiler.HeaderLines(name, ls)
	}
	var out []string // a list that HTTP/2 takes apart and joins again
	for c := range strings.SplitSeq(strings.Join(ls, ";"), ";") {
		if c = strings.TrimSpace(c); c != "" {
			out = append(out, c)
		}
	}
	return out
}
