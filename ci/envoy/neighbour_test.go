package envoy

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/ci/hostile"
	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

var (
	hunted    = flag.Duration("hunt", 25*time.Second, "how long hostile clients attack")
	huntSeed  = flag.Uint64("huntseed", 1, "seed of the attacks; 0 takes a fresh one")
	huntFirst = flag.Int("huntfirst", 0, "number of the first attack")
	huntMost  = flag.Int("huntmost", 3, "findings after which the hunt ends")
)

// street is a mesh whose services stand behind one gateway and are called by one
// sidecar: what one client does there, others may feel.
type street struct {
	stage *rehearsal.Stage
	doors []hostile.Door
}

// everything is a service with all that reacts to failures.
const everything = `
	outlier: {consecutive5xx: 3, interval: "1s", baseEjection: "2s", maxEjectionPercent: 100}
	circuitBreaker: {maxConnections: 5000, maxPendingRequests: 5000, maxRequests: 5000, maxRetries: 50}
	rateLimit: all: {requests: 1000000, per: "1s"}
	route: default: {to: default: 100, timeout: "30s", retry: {attempts: 2, on: ["connect-failure", "refused-stream", "reset", "gateway-error"], idempotent: true}}
`

func openStreet(t *testing.T, services map[string]string) *street {
	t.Helper()
	var body, routes strings.Builder
	names := slices.Sorted(maps.Keys(services))
	var rs []compiler.Request
	for _, s := range names {
		fmt.Fprintf(&body, "mesh: service: %s: {grant: all: mesh: true, %s}\n", s, services[s])
		fmt.Fprintf(&routes, "\t%s: {match: path: prefix: \"/%s\", to: %s: 100, timeout: \"60s\"}\n", s, s, s)
		rs = append(rs, compiler.Request{To: "gateway/shop/edge"}, compiler.Request{From: "shop/" + names[0], To: "shop/" + s})
	}
	fmt.Fprintf(&body, "mesh: gateway: edge: {port: http: number: 80, host: \"shop.test\": route: {\n%s}}\n", routes.String())
	ctx, cancel := context.WithTimeout(t.Context(), *hunted+5*time.Minute)
	t.Cleanup(cancel)
	reh, err := shop(t, body.String()).Rehearse(rs)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := rehearsal.Start(ctx, realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	out := &street{stage: stage}
	for i, d := range reh.Doors {
		addr, ok := stage.Address(d)
		if !ok {
			t.Fatalf("no address of %+v", d)
		}
		s := names[i/2]
		door := hostile.Door{Name: "gateway to " + s, Addr: addr, Target: hostile.Target{Host: "shop.test", Path: "/" + s, SizeHeader: rehearsal.SizeHeader}}
		if i%2 == 1 {
			door.Name, door.Host = "sidecar to "+s, s+".shop"
		}
		out.doors = append(out.doors, door)
		if i%2 == 1 { // with the caller's key, past its proxy
			door.Name = "sidecar of " + s
			if door.Dial, err = stage.Entrance(d.Class, "inbound/shop/"+s+"/http/default"); err != nil {
				t.Fatal(err)
			}
			out.doors = append(out.doors, door)
		}
	}
	return out
}

// The three ways in which an application is reached.
func services() map[string]string {
	return map[string]string{
		"plain": `port: http: number: 80`,
		"full":  `port: http: number: 80` + everything,
		"two":   `port: http: {number: 80, protocol: "http2"}`,
	}
}

// unharmed looks at what neighbours would feel later: a workload out of rotation, or a
// failure of a workload's that its callers' proxies count, some of which in a row take
// it out. Nothing that a stranger sends is one; that its application does not answer in
// time (504) says more of the machine.
func (s *street) unharmed(t *testing.T) func(context.Context) error {
	t.Helper()
	last, err := s.failures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) error {
		now, err := s.failures(ctx)
		if err != nil {
			return err
		}
		before := last
		last = now
		for name, n := range now {
			if harms.MatchString(name) && n > before[name] {
				return fmt.Errorf("a failure of a workload's was counted:%s", grown(before, now))
			}
		}
		return nil
	}
}

// harms are the counters of failures of workloads, as their callers see them.
var harms = regexp.MustCompile(`cluster\.shop/[^.]*\.(outlier_detection\.ejections_enforced_total|upstream_rq_(50[0-35-9]|retry))$`)

// failures is what the proxies count of failed requests, by proxy, cluster and kind.
func (s *street) failures(ctx context.Context) (map[string]int, error) {
	const kinds = `^cluster\..*\.(outlier_detection\.ejections_enforced_.*|upstream_rq_(5..|timeout|per_try_timeout|rx_reset|retry|pending_failure_eject)|` +
		`upstream_cx_(connect_fail|connect_timeout|protocol_error|destroy_remote_with_active_rq)|http2\.keepalive_timeout)$`
	out := map[string]int{}
	for _, class := range s.stage.Classes() {
		page, err := s.stage.Admin(ctx, class, "/stats?filter="+url.QueryEscape(kinds))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(page)) {
			name, count, _ := strings.Cut(line, ": ")
			n, err := strconv.Atoi(strings.TrimSpace(count))
			if err != nil {
				return nil, fmt.Errorf("reading %q: %w", line, err)
			}
			out[class.String()+" "+name] = n
		}
	}
	return out, nil
}

// grown tells the counters that have.
func grown(before, now map[string]int) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if more := now[name] - before[name]; more > 0 {
			fmt.Fprintf(&out, "\n    %s +%d", name, more)
		}
	}
	return out.String()
}

// TestNeighboursAreServed lets a hostile client attack doors of a mesh while
// others use the same proxies: they have to get every answer.
func TestNeighboursAreServed(t *testing.T) {
	s := openStreet(t, services())
	for _, a := range known() {
		t.Run(strings.ReplaceAll(a.name, " ", "-"), func(t *testing.T) {
			doors := slices.DeleteFunc(slices.Clone(s.doors), func(d hostile.Door) bool { return !strings.HasSuffix(d.Name, a.to) })
			got, err := hostile.Hunt{Doors: doors, Check: s.unharmed(t)}.Try(t.Context(), a.attack)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range got {
				t.Errorf("a neighbour was hurt at the door %s: %s", f.Door.Name, f.Harm)
			}
		})
	}
	t.Run("hunt", func(t *testing.T) {
		seed := *huntSeed
		if seed == 0 {
			seed = uint64(time.Now().UnixNano())
		}
		before, err := s.failures(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := hostile.Hunt{Doors: s.doors, Seed: seed, First: *huntFirst, For: *hunted, Check: s.unharmed(t), Most: *huntMost}.Run(t.Context())
		if err != nil {
			t.Error(err)
		}
		after, err := s.failures(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("seed %d, attacks %d to %d in %v; what proxies counted:%s", seed, *huntFirst, *huntFirst+got.Attacks-1, got.Took.Round(time.Millisecond), grown(before, after))
		for _, f := range got.Findings {
			t.Errorf("a neighbour was hurt %s\n  again with: go test ./ci/envoy -run TestNeighboursAreServed/hunt -huntseed=%d -huntfirst=%d", f, seed, f.Number)
		}
	})
}

// knownAttack hurt neighbours once, or is what a proxy's manual warns of.
type knownAttack struct {
	name   string
	attack func(hostile.Door) hostile.Attack
	to     string // the service, if not all: what costs much
}

// attackWith is a request with further lines.
func attackWith(lines string) func(hostile.Door) hostile.Attack {
	return func(d hostile.Door) hostile.Attack {
		return hostile.Attack{Sends: [][]byte{fmt.Appendf(nil, "GET %s HTTP/1.1\r\nhost: %s\r\n%s\r\n", d.Path, d.Host, lines)}}
	}
}

// then does the same in another way.
func then(how func(*hostile.Attack), attack func(hostile.Door) hostile.Attack) func(hostile.Door) hostile.Attack {
	return func(d hostile.Door) hostile.Attack {
		a := attack(d)
		how(&a)
		return a
	}
}

func known() []knownAttack {
	out := []knownAttack{
		{name: "empty te", attack: attackWith("te:\r\n")},
		{name: "te of several lines", attack: attackWith("te: trailers\r\nte:\r\n")},
		{name: "at sign behind the port", attack: func(d hostile.Door) hostile.Attack {
			return hostile.Attack{Sends: [][]byte{fmt.Appendf(nil, "GET %s HTTP/1.1\r\nhost: %s:a@b\r\n\r\n", d.Path, d.Host)}}
		}},
		{name: "length beyond 63 bits", attack: then(func(a *hostile.Attack) { a.Times = 8 }, attackWith("content-length: 9223372036854775808\r\n"))},
		{name: "hanging up early", attack: then(func(a *hostile.Attack) {
			a.Times, a.Pause, a.End = 600, 2*time.Millisecond, hostile.HungUp
		}, attackWith(rehearsal.WaitHeader+": 3s\r\n"))},
		{name: "rapid resets by many", attack: func(d hostile.Door) hostile.Attack {
			a := hostile.RapidReset(d.Target, 600)
			a.Times = 20
			return a
		}, to: "plain"},
		{name: "one long line", attack: then(func(a *hostile.Attack) { a.Times = 8 }, attackWith("x-a: "+strings.Repeat("a", 61250-len("x-a: \r\n"))+"\r\n"))},
		{name: "large answers that nobody reads", attack: then(func(a *hostile.Attack) {
			a.Times, a.Pause, a.End = 12, 2*time.Second, hostile.Forgotten
		}, attackWith(rehearsal.SizeHeader+": 60000000\r\n"))},
		{name: "bodies that nobody ends", attack: func(d hostile.Door) hostile.Attack {
			head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nhost: %s\r\ncontent-length: 100000000\r\n\r\n", d.Path, d.Host)
			return hostile.Attack{Sends: [][]byte{append(head, make([]byte, 64<<10)...)}, Times: 40, Pause: time.Second, End: hostile.Forgotten}
		}},
		{name: "bodies that nobody reads", attack: func(d hostile.Door) hostile.Attack {
			head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nhost: %s\r\ncontent-length: 100000000\r\n%s: 15s\r\n\r\n", d.Path, d.Host, rehearsal.WaitHeader)
			return hostile.Attack{Sends: [][]byte{append(head, make([]byte, 4<<20)...)}, Times: 12, End: hostile.Forgotten}
		}},
		{name: "headers that nobody ends", attack: func(d hostile.Door) hostile.Attack {
			return hostile.Attack{Sends: [][]byte{fmt.Appendf(nil, "GET %s HTTP/1.1\r\nhost: %s\r\nx-a: a", d.Path, d.Host)}, Times: 300, End: hostile.Forgotten}
		}},
		{name: "many slow answers", attack: then(func(a *hostile.Attack) { a.Times, a.End = 300, hostile.Forgotten }, attackWith(rehearsal.WaitHeader+": 20s\r\n"))},
	}
	for n := 90; n <= 101; n++ {
		out = append(out, knownAttack{name: fmt.Sprint(n, " header lines"), attack: then(func(a *hostile.Attack) { a.Times = 8 }, attackWith(strings.Repeat("x-a: b\r\n", n-1)))})
	}
	return out
}

// A breaker bounds what the callers' proxies have open, each for itself: strangers at
// a gateway can fill the gateway's, but nobody else's, and leave nothing behind.
func TestStrangersFillTheirOwnBreaker(t *testing.T) {
	const bound = 5
	s := openStreet(t, map[string]string{"app": fmt.Sprintf("port: http: number: 80, circuitBreaker: maxRequests: %d", bound)})
	gateway, sidecar := s.doors[0], s.doors[1]
	ask := func(d hostile.Door, header string) (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.Addr+d.Path, nil)
		if err != nil {
			return 0, err
		}
		req.Host = d.Host
		req.Header.Set(rehearsal.WaitHeader, header)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	await := func(d hostile.Door, want int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got, err := ask(d, "0s")
			if err == nil && got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("at the door %s: %d (%v), not %d", d.Name, got, err, want)
			}
		}
	}
	slow := attackWith(rehearsal.WaitHeader + ": 20s\r\n")(gateway)
	slow.Times = 4 * bound
	leave := hostile.Hold(t.Context(), gateway, slow)
	defer leave()
	await(gateway, http.StatusServiceUnavailable)
	await(sidecar, http.StatusOK)
	leave()
	await(gateway, http.StatusOK)
}

// A rate limit counts what arrives at the workload, whoever asks; what a proxy
// refuses before it takes nothing from others.
func TestRefusedRequestsTakeNothingOfALimit(t *testing.T) {
	s := openStreet(t, map[string]string{"app": `port: http: number: 80, rateLimit: all: {requests: 40, per: "1h"}`})
	for _, line := range []string{"GET %s HTTP/1.1\r\nhost: %s:a@b\r\n\r\n", "GET %s/%%2f HTTP/1.1\r\nhost: %s\r\n\r\n"} {
		got, err := hostile.Hunt{Doors: s.doors[:1]}.Try(t.Context(), func(d hostile.Door) hostile.Attack {
			return hostile.Attack{Sends: [][]byte{fmt.Appendf(nil, line, d.Path, d.Host)}, Times: 50}
		})
		if err != nil || len(got) > 0 {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
}
