package rehearsal

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler"
)

// Differs compares what the evaluator says of a request with what became of it.
// "" means that they agree: on the destination (one that has a share), the status,
// who answered, the path, and every header line that the mesh edits or the caller
// sent. Delays, retries and copies are not looked at.
func Differs(want compiler.Answer, r compiler.Request, got Reply) string {
	if aborted(want.Outcome, got) {
		return ""
	}
	if want.Status == http.StatusBadRequest {
		return answered(http.StatusBadRequest, got)
	}
	if want.Scope.Protocol == "tcp" {
		return differsTCP(want, got)
	}
	switch {
	case want.Status == http.StatusForbidden:
		// A caller without identity fails at the handshake with a strict port.
		if want.Request.From == "" && got.Seen == nil && got.Status == http.StatusServiceUnavailable {
			return ""
		}
		return answered(want.Status, got)
	case want.Status == http.StatusNotFound:
		return answered(want.Status, got)
	case want.Status != 0:
		if why := answered(want.Status, got); why != "" {
			return why
		}
		return differsLocation(want, r, got)
	}
	if why := differsTarget(want, got); why != "" || got.Seen == nil {
		return why
	}
	return differsSeen(want, r, got)
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

// aborted reports whether the answer is a fault's.
func aborted(o compiler.Outcome, got Reply) bool {
	for _, f := range o.Fields {
		status, _, _ := strings.Cut(f.Value, " ")
		if f.Feature == "fault" && f.Name == "abort" && got.Seen == nil && status == strconv.Itoa(got.Status) {
			return true
		}
	}
	return false
}

func differsTCP(want compiler.Answer, got Reply) string {
	if want.Status == 0 {
		return differsTarget(want, got)
	}
	if got.Seen != nil {
		return fmt.Sprintf("the evaluator says %s, but the connection reached %s", compiler.Words(want.Outcome), got.Seen.Target)
	}
	return ""
}

// deniedShare marks a destination that refuses what another one of the route takes.
const deniedShare = "denied:"

func differsTarget(want compiler.Answer, got Reply) string {
	refusal := false
	for _, s := range want.Outcome.Shares {
		if strings.HasPrefix(s.Target, deniedShare) {
			refusal = true
		} else if got.Seen != nil && s.Target == got.Seen.Target && s.Weight > 0 {
			return ""
		}
	}
	if got.Seen != nil {
		return fmt.Sprintf("the evaluator says %s, but the request reached %s", compiler.Words(want.Outcome), got.Seen.Target)
	}
	if refusal && got.Status == http.StatusForbidden {
		return ""
	}
	return fmt.Sprintf("the evaluator says %s, but the answer was %d (%s)", compiler.Words(want.Outcome), got.Status, strings.TrimSpace(got.Text))
}

// differsLocation compares a redirect with its fields; what has none stays.
func differsLocation(want compiler.Answer, r compiler.Request, got Reply) string {
	lines := got.Headers["location"]
	if len(lines) != 1 {
		return fmt.Sprintf("the redirect has %d locations", len(lines))
	}
	u, err := url.Parse(lines[0])
	if err != nil {
		return fmt.Sprintf("the redirect's location %q is none: %v", lines[0], err)
	}
	sent := orElse(r.Path, "/")
	_, query, _ := strings.Cut(sent, "?")
	expect := map[string]string{"scheme": "http", "host": want.Request.Host, "path": want.Request.Path}
	if r.Host == "" {
		expect["host"] = defaultHost
	}
	for _, f := range want.Outcome.Fields {
		if f.Feature == "redirect" {
			expect[f.Name] = f.Value
		}
	}
	have := map[string]string{"scheme": u.Scheme, "host": strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), "path": u.EscapedPath()}
	for name, v := range have {
		if v != expect[name] {
			return fmt.Sprintf("the evaluator says a redirect with the %s %q, but the location is %q", name, expect[name], lines[0])
		}
	}
	if u.RawQuery != query {
		return fmt.Sprintf("the redirect's query was %q, but the location is %q", query, lines[0])
	}
	return ""
}

// differsSeen compares the request at the destination, and the response.
func differsSeen(want compiler.Answer, r compiler.Request, got Reply) string {
	seen := got.Seen
	if got.Status != http.StatusOK {
		return fmt.Sprintf("the application answered 200, but the caller saw %d", got.Status)
	}
	if seen.Method != want.Request.Method {
		return fmt.Sprintf("the method %s arrived as %s", want.Request.Method, seen.Method)
	}
	path := want.Request.Path
	if _, query, ok := strings.Cut(r.Path, "?"); ok {
		path += "?" + query
	}
	if seen.Path != path {
		return fmt.Sprintf("the evaluator says the path %q, but %q arrived", path, seen.Path)
	}
	sent := map[string][]string{}
	for _, h := range r.Headers {
		n := strings.ToLower(h.Name)
		sent[n] = append(sent[n], strings.TrimSpace(h.Value))
	}
	if why := differsHeaders("request-headers", want.Outcome, sent, seen.Headers); why != "" {
		return "at the destination: " + why
	}
	if why := differsHeaders("response-headers", want.Outcome, AppHeaders(), got.Headers); why != "" {
		return "at the caller: " + why
	}
	return ""
}

// differsHeaders applies the edits of one feature to the lines that were sent and
// compares each name among them with what arrived, lines in their order.
func differsHeaders(feature string, o compiler.Outcome, sent, arrived map[string][]string) string {
	expect := maps.Clone(sent)
	for _, how := range []string{"remove", "set", "add"} {
		for _, f := range o.Fields {
			what, name, _ := strings.Cut(f.Name, " ")
			if f.Feature != feature || what != how {
				continue
			}
			switch how {
			case "remove":
				expect[name] = nil
			case "set":
				expect[name] = []string{f.Value}
			default:
				expect[name] = append(slices.Clip(expect[name]), f.Value)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(expect)) {
		if !slices.Equal(expect[name], arrived[name]) {
			return fmt.Sprintf("the evaluator says %s: %q, but there is %q", name, expect[name], arrived[name])
		}
	}
	return ""
}
