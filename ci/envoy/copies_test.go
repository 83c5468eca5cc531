package envoy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// numberHeader tells whose copy a request is.
const numberHeader = "x-number"

// numbered is a request with a number, if there may be copies of it, and what the evaluator
// says of it.
func numbered(p *compiler.Program, r compiler.Request, i int) (compiler.Request, compiler.Answer, error) {
	want, err := p.Decide(r)
	if err != nil || len(copies(want)) == 0 {
		return r, want, err
	}
	r.Headers = append(slices.Clone(r.Headers), compiler.Header{Name: numberHeader, Value: strconv.Itoa(i)})
	want, err = p.Decide(r)
	return r, want, err
}

// copies is where copies of a request go, and how many percent. Envoy copies nothing that is
// aborted before, and no connection that is to change its protocol.
func copies(want compiler.Answer) map[string]float64 {
	out := map[string]float64{}
	for _, p := range want.Outcome.Partly {
		if p.Ends() {
			return out
		}
	}
	if want.Request.Upgrade != "" {
		return out
	}
	for _, f := range want.Outcome.Fields {
		if to, ok := strings.CutPrefix(f.Name, "to "); ok && f.Feature == "mirror" {
			out[to] = f.Number
		}
	}
	return out
}

// compareCopies compares the copies that arrived with what the evaluator says of them: those
// that must arrive are waited for, and what must not arrive has not. Copies of a share of the
// requests, and of those that a share of the time nobody copies, may arrive.
func compareCopies(ctx context.Context, t *testing.T, p *compiler.Program, s *rehearsal.Stage, ts []trial) {
	t.Helper()
	must := map[string]int{} // by number and target
	may := map[string]bool{}
	for i := range ts {
		for to, percent := range copies(ts[i].want) {
			key := strconv.Itoa(i) + " " + to
			arrives, sure := arrival(t, p, ts[i], to)
			may[key] = arrives || !sure
			if arrives && sure && percent == 100 {
				must[key] = 1
			}
			if seen := ts[i].got.Seen; seen != nil && seen.Target == to { // the request itself
				must[key]++
			}
		}
	}
	arrived := func() map[string][]rehearsal.Seen {
		out := map[string][]rehearsal.Seen{}
		for _, x := range s.Seen() {
			if lines := x.Headers[numberHeader]; len(lines) > 0 {
				out[lines[0]+" "+x.Target] = append(out[lines[0]+" "+x.Target], x)
			}
		}
		return out
	}
	seen := arrived()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if seen = arrived(); !slices.ContainsFunc(keys(must), func(k string) bool { return len(seen[k]) < must[k] }) {
			break
		}
	}
	for i := range ts {
		for to := range copies(ts[i].want) {
			key := strconv.Itoa(i) + " " + to
			all, own := seen[key], 0
			if x := ts[i].got.Seen; x != nil && x.Target == to {
				own = 1
			}
			if ts[i].copies += len(all) - own; ts[i].differs != "" {
				continue
			}
			switch {
			case len(all) < must[key]:
				ts[i].differs = fmt.Sprintf("no copy arrived at %s", to)
			case len(all) > own && !may[key]:
				ts[i].differs = fmt.Sprintf("a copy arrived at %s, which lets none in", to)
			}
			if own > 0 || ts[i].want.Status != 0 {
				continue // which of them is the copy, or what else the route changes, is not known
			}
			for _, x := range all {
				ts[i].want.Personal = append(ts[i].want.Personal, p.Personal(to)...)
				if why := rehearsal.DiffersSeen(ts[i].want, ts[i].request, forwardedOnce(x)); why != "" && ts[i].differs == "" {
					ts[i].differs = "of the copy: " + why
				}
			}
		}
	}
}

// forwardedOnce is a copy without what Envoy adds to x-forwarded-for of copies: its own address.
func forwardedOnce(x rehearsal.Seen) rehearsal.Seen {
	const name = "x-forwarded-for"
	x.Headers = maps.Clone(x.Headers)
	lines := strings.Join(x.Headers[name], ",")
	if i := strings.LastIndexByte(lines, ','); i >= 0 {
		x.Headers[name] = []string{lines[:i]}
	} else {
		delete(x.Headers, name)
	}
	return x
}

func keys(m map[string]int) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// arrival is whether the proxy of a copy's receiver lets it through, as far as that can be
// told from what becomes of the same request to that service: grants and denies are the same,
// and what the service's routes do is not known of the copy.
func arrival(t *testing.T, p *compiler.Program, x trial, to string) (arrives, sure bool) {
	t.Helper()
	chunked := slices.ContainsFunc(x.request.Headers, func(h compiler.Header) bool { return h.Name == "transfer-encoding" })
	if chunked && x.want.Status != 0 { // an answer before the body's end may end the copy
		return false, false
	}
	if x.want.Arrives.Path == "" || len(x.want.MayAnswer()) > 0 || x.got.Seen == nil && x.want.Status == 0 {
		return false, false // a share is answered before, or something else
	}
	if len(x.request.Users) > 0 { // whether a token gets as far as the copy's proxy is another matter
		return false, false
	}
	parts := strings.Split(to, "/") // namespace/service/port/version
	host := x.want.Arrives.Host
	if host == "" {
		host = x.want.Authority
	}
	path := x.want.Arrives.Path
	if q := x.want.Request.Query; q != "" {
		path += "?" + q
	}
	r := compiler.Request{From: x.want.Request.From, To: parts[0] + "/" + parts[1], Port: parts[2], Host: host, Method: x.want.Request.Method, Path: path, Headers: x.want.Request.Headers}
	if gateway, ok := strings.CutPrefix(x.request.To, "gateway/"); ok {
		r.From = "gateway/" + gateway
	}
	a, err := p.Decide(r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	elsewhere := func(s compiler.Step) bool {
		return strings.HasPrefix(s.Path, "service/") && !strings.HasPrefix(s.Path+"/", "service/"+parts[0]+"/"+parts[1]+"/")
	}
	switch {
	case slices.ContainsFunc(a.Steps, elsewhere): // a route leads requests on; copies go to the service itself
		return false, false
	case r.Method == "OPTIONS": // what the route changes of its headers may make it a preflight, which is answered
		return false, false
	case a.ByProxy() || a.Moved() || len(a.MayAnswer()) > 0 || a.Outcome.Verdict != "forward" && a.Outcome.Verdict != "denied":
		return false, false
	case a.Outcome.Verdict == "denied":
		return false, true
	}
	for _, s := range a.Outcome.Shares {
		if s.Status != 0 {
			return false, false
		}
	}
	return true, true
}
