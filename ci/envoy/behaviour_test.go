package envoy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/hop"
	"meshc.dev/meshc/internal/rehearsal"
)

// notConnected is what a proxy says of an application that refused the connection.
const notConnected = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"

// play is a rehearsal of a mesh whose service "app" calls itself.
type play struct {
	t     *testing.T
	ctx   context.Context
	stage *rehearsal.Stage
	door  compiler.Door
	host  string
}

func start(t *testing.T, service string) *play {
	t.Helper()
	return startAt(t, "mesh: service: app: {port: http: number: 80, grant: all: mesh: true, "+service+"}", compiler.Request{From: "shop/app", To: "shop/app"})
}

// startAt begins a play of a mesh whose door is where the request is asked.
func startAt(t *testing.T, mesh string, door compiler.Request) *play {
	t.Helper()
	p := shop(t, mesh)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	reh, stage := stageOf(ctx, t, p, []compiler.Request{door})
	return &play{t, ctx, stage, reh.Doors[0], door.Host}
}

// ask sends a request that the application fails so many times, each after a wait.
func (p *play) ask(path string, fail int, wait time.Duration) rehearsal.Reply {
	p.t.Helper()
	got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: path, Host: p.host, Headers: []compiler.Header{
		{Name: rehearsal.FailHeader, Value: fmt.Sprint(fail)}, {Name: rehearsal.WaitHeader, Value: wait.String()},
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// tries is how often the application saw the path.
func (p *play) tries(path string) int {
	n := 0
	for _, s := range p.stage.Seen() {
		if s.Path == path {
			n++
		}
	}
	return n
}

func TestRetriesAreMadeAsAsked(t *testing.T) {
	p := start(t, `route: {
		twice: {match: path: prefix: "/twice", to: default: 100, retry: {attempts: 2, on: ["gateway-error"], idempotent: true}}
		once: {match: path: prefix: "/once", to: default: 100, retry: {attempts: 2, on: ["connect-failure", "refused-stream"]}}
		default: to: default: 100
	}`)
	for _, c := range []struct {
		path                string
		fail, status, tries int
	}{
		{"/twice/good", 0, 200, 1},
		{"/twice/mended", 2, 200, 3},
		{"/twice/broken", 9, 503, 3},
		{"/once/a", 1, 503, 1}, // the application has begun it: not repeated
		{"/none", 1, 503, 1},
	} {
		if got := p.ask(c.path, c.fail, 0); got.Status != c.status || p.tries(c.path) != c.tries {
			t.Errorf("%s: %d after %d tries, want %d after %d", c.path, got.Status, p.tries(c.path), c.status, c.tries)
		}
	}
}

// retried is how often the caller's proxy has sent a request again.
func (p *play) retried() int {
	p.t.Helper()
	page, err := p.stage.Admin(p.ctx, p.door.Class, "/stats?filter=upstream_rq_retry$")
	if err != nil {
		p.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(page)) {
		if _, value, ok := strings.Cut(strings.TrimSpace(line), "upstream_rq_retry: "); ok {
			more, err := strconv.Atoi(value)
			if err != nil {
				p.t.Fatal(err)
			}
			n += more
		}
	}
	return n
}

// An application that cannot have begun a request gets it again, although two proxies are
// in between; one that may have does not, whatever it says of itself.
func TestWhatHasNotBegunIsSentAgain(t *testing.T) {
	p := start(t, `route: {
		off: {match: path: prefix: "/off", to: default: 100, retry: attempts: 0}
		patient: {match: path: prefix: "/patient", to: default: 100, retry: {attempts: 10, on: ["connect-failure"]}}
		twice: {match: path: prefix: "/twice", to: default: 100, retry: {attempts: 2, on: ["reset"], idempotent: true}}
		default: to: default: 100
	}`)
	answer := func(path, raw string) rehearsal.Reply {
		got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: path, Headers: []compiler.Header{{Name: rehearsal.AnswerHeader, Value: rehearsal.Raw(raw)}}})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, c := range []struct {
		path, answer           string
		status, tries, retried int
	}{
		{"/closed", "", 503, 1, 0},
		{"/twice/closed", "", 503, 3, 2},
		{"/forged", "HTTP/1.1 503 Unavailable\r\n" + hop.NotAnswered + ": " + notConnected + "\r\ncontent-length: 0\r\n\r\n", 503, 1, 0},
		{"/twice/forged", "HTTP/1.1 503 Unavailable\r\n" + hop.NotAnswered + ": upstream_reset_before_response_started{connection_termination}\r\ncontent-length: 0\r\n\r\n", 503, 1, 0},
	} {
		before := p.retried()
		got := answer(c.path, c.answer)
		if n := p.retried() - before; got.Status != c.status || p.tries(c.path) != c.tries || n != c.retried {
			t.Errorf("%s: %d after %d tries and %d retries, want %d after %d and %d", c.path, got.Status, p.tries(c.path), n, c.status, c.tries, c.retried)
		}
		if told := got.Headers[hop.NotAnswered]; told != nil {
			t.Errorf("%s: the caller's application is told %q", c.path, told)
		}
	}
	back, err := p.stage.Away("shop/app/http/default")
	if err != nil {
		t.Fatal(err)
	}
	for path, retries := range map[string]int{"/": 1, "/off": 0} {
		before := p.retried()
		if got := p.ask(path, 0, 0); got.Status != http.StatusServiceUnavailable || p.retried()-before != retries || got.Headers[hop.NotAnswered] != nil {
			t.Errorf("%s: %d %v after %d retries, want 503 after %d", path, got.Status, got.Headers, p.retried()-before, retries)
		}
	}
	before := p.retried()
	var g errgroup.Group
	g.Go(func() error {
		got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: "/patient"})
		if err == nil && got.Status != http.StatusOK {
			err = fmt.Errorf("the answer is %d", got.Status)
		}
		return err
	})
	for p.retried() == before && p.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if err := back(p.ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Errorf("an application that comes back: %v", err)
	}
}

func TestTimeoutsEndRequests(t *testing.T) {
	p := start(t, `route: {
		short: {match: path: prefix: "/short", to: default: 100, timeout: "2s"}
		each: {match: path: prefix: "/each", to: default: 100, timeout: "1m", retry: {attempts: 1, perTry: "2s", on: ["gateway-error"], idempotent: true}}
		default: {to: default: 100, timeout: "1m"}
	}`)
	for _, c := range []struct {
		path          string
		wait          time.Duration
		status, tries int
	}{
		{"/short/quick", 0, 200, 1},
		{"/short/slow", 50 * time.Second, 504, 1},
		{"/each/slow", 50 * time.Second, 504, 2},
		{"/long", 4 * time.Second, 200, 1},
	} {
		began := time.Now()
		got := p.ask(c.path, 0, c.wait)
		if took := time.Since(began); got.Status != c.status || p.tries(c.path) != c.tries || took > 40*time.Second {
			t.Errorf("%s: %d after %v and %d tries, want %d after %d", c.path, got.Status, took, p.tries(c.path), c.status, c.tries)
		}
	}
}

// Of what a gateway's route and the service behind it write, the tighter bound holds; what is
// not written bounds nothing that is.
func TestBothSidesBoundRequests(t *testing.T) {
	p := startAt(t, `
mesh: default: timeout: "1s"
mesh: service: app: {port: http: number: 80, grant: edge: from: ["gateway/edge"], route: {
	short: {match: path: prefix: "/short", to: default: 100, timeout: "1s"}
	long: {match: path: prefix: "/long", to: default: 100, timeout: "50s"}
	often: {match: path: prefix: "/often", to: default: 100, timeout: "1m", retry: {attempts: 4, on: ["gateway-error"], idempotent: true}}
	once: {match: path: prefix: "/once", to: default: 100, timeout: "1m", retry: {attempts: 1, on: ["gateway-error"], idempotent: true}}
	never: {match: path: prefix: "/never", to: default: 100, timeout: "1m", retry: attempts: 0}
	default: to: default: 100
}}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": route: {
	short: {match: path: prefix: "/short", to: app: 100, timeout: "50s"}
	long: {match: path: prefix: "/long", to: app: 100, timeout: "1s"}
	usual: {match: path: prefix: "/usual", to: app: 100, timeout: "50s"}
	often: {match: path: prefix: "/often", to: app: 100, retry: attempts: 2}
	once: {match: path: prefix: "/once", to: app: 100, retry: {attempts: 3, on: ["gateway-error"], idempotent: true}}
	never: {match: path: prefix: "/never", to: app: 100, retry: {attempts: 3, on: ["gateway-error"], idempotent: true}}
	theirs: {match: path: prefix: "/theirs", to: app: 100, retry: {attempts: 3, on: ["gateway-error"], idempotent: true}, timeout: "1m"}
	rest: to: app: 100
}}`, compiler.Request{To: "gateway/shop/edge", Host: "a.test"})
	for _, c := range []struct {
		path          string
		fail          int
		wait          time.Duration
		status, tries int
	}{
		{"/short", 0, 40 * time.Second, 504, 1},
		{"/long", 0, 40 * time.Second, 504, 1},
		{"/rest", 0, 40 * time.Second, 504, 1}, // the default
		{"/usual", 0, 3 * time.Second, 200, 1},
		{"/often/mended", 2, 0, 200, 3},
		{"/often/broken", 9, 0, 503, 3},
		{"/once", 9, 0, 503, 2},
		{"/never", 9, 0, 503, 1},
		{"/theirs", 9, 0, 503, 4},
	} {
		began := time.Now()
		got := p.ask(c.path, c.fail, c.wait)
		if took := time.Since(began); got.Status != c.status || p.tries(c.path) != c.tries || took > 30*time.Second {
			t.Errorf("%s: %d after %v and %d tries, want %d after %d", c.path, got.Status, took, p.tries(c.path), c.status, c.tries)
		}
	}
}

// What one caller says at its call holds for what it asks, and for nobody else.
func TestCallersTightenWhatTheyAsk(t *testing.T) {
	p := shop(t, `mesh: service: app: {port: http: number: 80, grant: all: mesh: true, timeout: "50s", route: {
	short: {match: path: prefix: "/short", to: default: 100, timeout: "1s"}
	often: {match: path: prefix: "/often", to: default: 100, retry: {attempts: 2, on: ["gateway-error"], idempotent: true}}
	default: to: default: 100
}}
mesh: service: hasty: {port: http: number: 80, calls: app: {timeout: "1s", retry: attempts: 0}}
mesh: service: patient: {port: http: number: 80, calls: app: {timeout: "55s", idle: "1m", retry: attempts: 1}}
mesh: service: plain: {port: http: number: 80, calls: app: {}}`)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	callers := []string{"hasty", "patient", "plain"}
	var doors []compiler.Request
	for _, c := range callers {
		doors = append(doors, compiler.Request{From: "shop/" + c, To: "shop/app"})
	}
	reh, stage := stageOf(ctx, t, p, doors)
	for i, want := range []map[string][2]int{ // status and tries
		{"/slow": {504, 1}, "/short/slow": {504, 1}, "/often/broken": {503, 1}},
		{"/slow": {200, 1}, "/short/slow": {504, 1}, "/often/broken": {503, 2}},
		{"/slow": {200, 1}, "/short/slow": {504, 1}, "/often/broken": {503, 3}},
	} {
		caller := &play{t, ctx, stage, reh.Doors[i], ""}
		for path, w := range want {
			path, fail, wait := path+"/"+callers[i], 0, 4*time.Second
			if strings.HasPrefix(path, "/often") {
				fail, wait = 9, 0
			}
			if got := caller.ask(path, fail, wait); got.Status != w[0] || caller.tries(path) != w[1] {
				t.Errorf("%s: %d after %d tries, want %d after %d", path, got.Status, caller.tries(path), w[0], w[1])
			}
		}
	}
}

func TestRateIsLimitedWhereItArrives(t *testing.T) {
	p := start(t, `rateLimit: all: {requests: 3, per: "1h"}`)
	for i, want := range []int{200, 200, 200, 429, 429} {
		if got := p.ask("/", 0, 0); got.Status != want {
			t.Errorf("request %d: %d, want %d", i+1, got.Status, want)
		}
	}
	if n := p.tries("/"); n != 3 {
		t.Errorf("the application saw %d", n)
	}
}

func TestBreakerRefusesWhatIsTooMuch(t *testing.T) {
	p := start(t, `circuitBreaker: {maxRequests: 2}`)
	const n = 8
	status := make([]int, n)
	var g errgroup.Group
	for i := range n {
		g.Go(func() error {
			got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: "/", Headers: []compiler.Header{{Name: rehearsal.WaitHeader, Value: "4s"}}})
			status[i] = got.Status
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	count := map[int]int{}
	for _, s := range status {
		count[s]++
	}
	// Envoy's threads count without a lock: a request more may slip through.
	ok, refused := count[http.StatusOK], count[http.StatusServiceUnavailable]
	if ok < 2 || ok > 4 || ok+refused != n {
		t.Errorf("of %d at once: %v", n, count)
	}
	if got := p.ask("/", 0, 0); got.Status != http.StatusOK {
		t.Errorf("afterwards: %d", got.Status)
	}
}

// A version has bounds of its own, and the service's others keep theirs.
func TestVersionHasItsOwnBounds(t *testing.T) {
	p := startAt(t, `mesh: service: app: {port: http: number: 80, grant: all: mesh: true, timeout: "1m", retry: attempts: 0,
	outlier: {consecutive5xx: 100, interval: "1h"}
	version: {v1: {}, v2: outlier: {consecutive5xx: 2, interval: "1h", baseEjection: "1h", maxEjectionPercent: 100}}
	route: {
		next: {match: path: prefix: "/next", to: v2: 100}
		default: to: v1: 100
	}
}`, compiler.Request{From: "shop/app", To: "shop/app"})
	for range 2 {
		p.ask("/next", 9, 0)
		p.ask("/now", 9, 0)
	}
	ejected := func(version string) bool {
		page, err := p.stage.Admin(p.ctx, p.door.Class, "/clusters")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(page)) {
			if strings.HasPrefix(line, "shop/app/http/"+version+"::") && strings.Contains(line, "health_flags::/failed_outlier_check") {
				return true
			}
		}
		return false
	}
	for !ejected("v2") {
		if err := p.ctx.Err(); err != nil {
			t.Fatal(errors.New("v2 is not ejected after 2 errors in a row"))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if ejected("v1") {
		t.Error("v1 is ejected after 2 errors in a row, which may have 100")
	}
}

// TestWorkloadsAreEjectedByWhatIsWritten: each kind of failure in a row ejects after as many as are
// written, where errors of all kinds eject after nine.
func TestWorkloadsAreEjectedByWhatIsWritten(t *testing.T) {
	const errorsInARow = 9
	for word, after := range map[string]int{
		`interval: "1h"`:                       errorsInARow,
		"gatewayErrors: 4":                     4,
		"localErrors: 1":                       errorsInARow, // an answer is none
		"failurePercent: 50, requestVolume: 1": errorsInARow, // of one workload there is no comparison
		"successRate: 1000, requestVolume: 1":  errorsInARow,
	} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			p := startEjecting(t, errorsInARow, word)
			for i := range after {
				if p.ejected() {
					t.Fatalf("ejected after %d errors", i)
				}
				p.ask("/", 99, 0)
			}
			for !p.ejected() {
				if err := p.ctx.Err(); err != nil {
					t.Fatalf("not ejected after %d errors", after)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// TestWorkloadIsEjectedByItsShareOfErrors, of which there is no number in a row.
func TestWorkloadIsEjectedByItsShareOfErrors(t *testing.T) {
	p := startEjecting(t, 1_000_000, `interval: "300ms", failurePercent: 50, requestVolume: 5, minimumHosts: 1`)
	for n := 0; !p.ejected(); n++ {
		if err := p.ctx.Err(); err != nil {
			t.Fatalf("not ejected after %d errors", n)
		}
		p.ask("/", 1_000_000, 0)
	}
}

// startEjecting begins a play of a service whose workload is out for an hour after so many errors in a
// row, or by what else is written.
func startEjecting(t *testing.T, errors int, words string) *play {
	t.Helper()
	return start(t, fmt.Sprintf(`retry: attempts: 0, outlier: {consecutive5xx: %d, baseEjection: "1h", maxEjectionPercent: 100, %s}`, errors, words))
}

// ejected reports whether the caller's proxy has a workload out of the rotation.
func (p *play) ejected() bool {
	p.t.Helper()
	page, err := p.stage.Admin(p.ctx, p.door.Class, "/clusters")
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Contains(string(page), "health_flags::/failed_outlier_check")
}

func TestDelayIsKept(t *testing.T) {
	p := start(t, `route: {
		late: {match: path: prefix: "/late", to: default: 100, fault: {delay: {duration: "400ms", percent: 100}, owner: "ops", reason: "test", until: "2030-01-01T00:00:00Z"}}
		default: to: default: 100
	}`)
	began := time.Now()
	if got := p.ask("/late", 0, 0); got.Status != http.StatusOK || time.Since(began) < 400*time.Millisecond {
		t.Errorf("%d after %v", got.Status, time.Since(began))
	}
}

// TestPagesOfOtherOriginsAreToldWhatTheyMay: a preflight from an origin that fits is
// answered before the grants, other answers to it can be read, and refusals too.
func TestPagesOfOtherOriginsAreToldWhatTheyMay(t *testing.T) {
	p := start(t, `grant: all: methods: ["GET"], cors: {
		origins: ["https://*.app.example"], methods: ["PUT"], headers: ["x-token"], expose: ["x-count"], maxAge: "10m", credentials: true
	}`)
	const fits, other = "https://www.app.example", "https://app.example"
	for _, c := range []struct {
		name, method, origin string
		asked                bool
		status               int
		reached              bool
		want                 map[string]string
	}{
		{"preflight", "OPTIONS", fits, true, 200, false, map[string]string{"access-control-allow-origin": fits, "access-control-allow-methods": "PUT",
			"access-control-allow-headers": "x-token", "access-control-max-age": "600", "access-control-allow-credentials": "true"}},
		{"preflight of another", "OPTIONS", other, true, 403, false, map[string]string{"access-control-allow-origin": ""}},
		{"options that ask for nothing", "OPTIONS", fits, false, 403, false, map[string]string{"access-control-allow-origin": fits}},
		{"get", "GET", fits, false, 200, true, map[string]string{"access-control-allow-origin": fits, "access-control-expose-headers": "x-count",
			"access-control-allow-credentials": "true", "access-control-allow-methods": ""}},
		{"get of another", "GET", other, false, 200, true, map[string]string{"access-control-allow-origin": "", "access-control-expose-headers": ""}},
		{"refused", "PUT", fits, false, 403, false, map[string]string{"access-control-allow-origin": fits}},
	} {
		r := compiler.Request{Method: c.method, Path: "/", Headers: []compiler.Header{{Name: "origin", Value: c.origin}}}
		if c.asked {
			r.Headers = append(r.Headers, compiler.Header{Name: "access-control-request-method", Value: "PUT"})
		}
		got, err := p.stage.Ask(p.ctx, p.door, r)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != c.status || (got.Seen != nil) != c.reached {
			t.Errorf("%s: status %d, reached %t; want %d, %t", c.name, got.Status, got.Seen != nil, c.status, c.reached)
		}
		for name, want := range c.want {
			if have := strings.Join(got.Headers[name], "|"); have != want {
				t.Errorf("%s: %s is %q, want %q", c.name, name, have, want)
			}
		}
	}
}

// An expression's rewriting takes the path as a whole or not at all, never the query, and the
// callee's grants and denies see what it makes: at Envoy as by the evaluator.
func TestExpressionsRewriteThePathAsAWhole(t *testing.T) {
	const mesh = `mesh: service: app: {
	port: http: number: 80
	deny: admin: {mesh: true, paths: ["/new/admin/*"]}
	grant: only: {from: ["app"], paths: ["/new/*", "/plain/*", "/one/*", "/twice/*"]}
	route: {
		swap: {match: path: prefix: "/swap", rewrite: regex: {pattern: "/swap/(\\w+)/([0-9]+)", to: #"/one/\2/\1"#}, to: default: 100}
		first: {match: path: prefix: "/first", rewrite: regex: {pattern: "/first/(a|ab)(c|bcd)(d*)", to: #"/one/\1-\2/\3x"#}, to: default: 100}
		short: {match: path: prefix: "/short", rewrite: regex: {pattern: "/short/([a-z]*?)/?([a-z/]*)", to: #"/new/x\1x\2"#}, to: default: 100}
		none: {match: path: prefix: "/none", rewrite: regex: {pattern: "/none/(?:(a)|(b))", to: #"/new/x\1x\2"#}, to: default: 100}
		last: {match: path: prefix: "/last", rewrite: regex: {pattern: "/last(?:/([ab]+))*", to: #"/new/x\1"#}, to: default: 100}
		twice: {match: path: prefix: "/twice", rewrite: regex: {pattern: "(/twice)(/[^/]+)?", to: #"\1\0/new"#}, to: default: 100}
		default: {to: default: 100, rewrite: regex: {pattern: "(?i)/old/(.*)", to: #"/new/\1"#}}
	}
}`
	p, program := startAt(t, mesh, compiler.Request{From: "shop/app", To: "shop/app"}), shop(t, mesh)
	for _, c := range []struct {
		path, arrives string
		status        int
	}{
		{"/swap/cup/12", "/one/12/cup", 200},
		{"/swap/cup/12?/swap/a/1", "/one/12/cup?/swap/a/1", 200},
		{"/swap/cup/x", "", 403},
		{"/swap/cup/12/swap/cup/12", "", 403},
		{"/first/abcd", "/one/a-bcd/x", 200},
		{"/first/acdd", "/one/a-c/ddx", 200},
		{"/short/ab/cd", "/new/xxab/cd", 200},
		{"/short/", "/new/xx", 200},
		{"/none/b", "/new/xxb", 200},
		{"/last/a/bb", "/new/xbb", 200},
		{"/last", "/new/x", 200},
		{"/twice/a", "/twice/twice/a/new", 200},
		{"/old/a?b=%2F", "/new/a?b=%2F", 200},
		{"/OLD/%61dmin/x", "", 403},
		{"/old/Admin;x/y", "", 403},
		{"/old/administer", "/new/administer", 200},
		{"/old/", "/new/", 200},
		{"/old", "", 403},
		{"/plain/old/a", "/plain/old/a", 200},
	} {
		r := compiler.Request{From: "shop/app", To: "shop/app", Method: "GET", Path: c.path}
		got, err := p.stage.Ask(p.ctx, p.door, r)
		if err != nil {
			t.Fatal(err)
		}
		arrived := ""
		if got.Seen != nil {
			arrived = got.Seen.Path
		}
		if got.Status != c.status || arrived != c.arrives {
			t.Errorf("%s: %d at %q, want %d at %q", c.path, got.Status, arrived, c.status, c.arrives)
		}
		want, err := program.Decide(r)
		if err != nil {
			t.Fatal(err)
		}
		if said := want.Allowed(); said != (c.status == http.StatusOK) || said && want.Target() != c.arrives {
			t.Errorf("%s: the evaluator says %s at %q, want %d at %q", c.path, want.Words(), want.Target(), c.status, c.arrives)
		}
	}
}

// Whoever is redirected is led where the words say, and the evaluator says the same: with what
// was behind a prefix, with or without the query, to another port, and behind a gateway that
// rewrites before the service's route redirects.
func TestRedirectsLeadWhereTheySay(t *testing.T) {
	p := shop(t, `
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, route: {
	below: {match: path: prefix: "/below", redirect: prefix: "/new"}
	bare: {match: path: prefix: "/bare", redirect: prefix: "/"}
	slash: {match: path: prefix: "/x", redirect: {prefix: "/", host: "b.test"}}
	plain: {match: path: prefix: "/plain", redirect: {prefix: "/new", keepQuery: false}}
	whole: {match: path: prefix: "/whole", redirect: {path: "/one", keepQuery: false, code: 302}}
	kept: {match: path: prefix: "/kept", redirect: path: "/one"}
	port: {match: path: prefix: "/port", redirect: port: 8443}
	both: {match: path: prefix: "/both", redirect: {port: 8443, scheme: "https", prefix: "/n"}}
	host: {match: path: prefix: "/host", redirect: {host: "b.test", port: 81}}
	own: {match: path: prefix: "/own", redirect: {scheme: "https", port: 443}}
	query: {match: {path: exact: "/query", query: a: present: true}, redirect: keepQuery: false}
	post: {match: {path: exact: "/post", methods: ["POST"]}, redirect: code: 303}
	default: to: default: 100
}}
mesh: gateway: edge: {port: http: number: 80, host: "app.shop": route: {
	all: {match: path: prefix: "/in", rewrite: prefix: "/", to: app: 100}
	deep: {match: path: prefix: "/deep", rewrite: prefix: "/below/deep", to: app: 100}
	one: {match: path: template: "/t/{a}/{b}", rewrite: path: "/below/{b}/{a}", to: app: 100}
}}`)
	doors := []compiler.Request{{From: "shop/app", To: "shop/app"}, {To: "gateway/shop/edge"}}
	at := open(t, p, doors...)
	for _, c := range []struct {
		door           int
		method, target string
		status         int
		location       string
	}{
		{0, "GET", "/below", 301, "http://app.shop:8080/new"},
		{0, "GET", "/below/", 301, "http://app.shop:8080/new/"},
		{0, "GET", "/below/a%20b?c=/below", 301, "http://app.shop:8080/new/a%20b?c=/below"},
		{0, "GET", "/below/below", 301, "http://app.shop:8080/new/below"},
		{0, "GET", "/bare", 301, "http://app.shop:8080/"},
		{0, "GET", "/bare/", 301, "http://app.shop:8080/"},
		{0, "GET", "/bare/a?b", 301, "http://app.shop:8080/a?b"},
		{0, "GET", "/x/x/y", 301, "http://b.test/x/y"},
		{0, "GET", "/plain/a?b=c", 301, "http://app.shop:8080/new/a"},
		{0, "GET", "/whole/a?b=c", 302, "http://app.shop:8080/one"},
		{0, "GET", "/kept/a?b=c", 301, "http://app.shop:8080/one?b=c"},
		{0, "GET", "/port/a?b=c", 301, "http://app.shop:8443/port/a?b=c"},
		{0, "GET", "/both/a?b=c", 301, "https://app.shop:8443/n/a?b=c"},
		{0, "GET", "/host/a", 301, "http://b.test:81/host/a"},
		{0, "GET", "/own/a", 301, "https://app.shop:443/own/a"},
		{0, "GET", "/query?a=1", 301, "http://app.shop:8080/query"},
		{0, "POST", "/post?a=1", 303, "http://app.shop:8080/post?a=1"},
		{1, "GET", "/in/below/a?b=c", 301, "http://app.shop:8080/new/a?b=c"},
		{1, "GET", "/in/bare", 301, "http://app.shop:8080/"},
		{1, "GET", "/in/plain/a?b=c", 301, "http://app.shop:8080/new/a"},
		{1, "GET", "/in/port/a", 301, "http://app.shop:8443/in/port/a"},
		{1, "GET", "/deep/a", 301, "http://app.shop:8080/new/deep/a"},
		{1, "GET", "/t/1/2?b=c", 301, "http://app.shop:8080/new/2/1?b=c"},
	} {
		status, header := say(t.Context(), at[c.door], c.method+" "+c.target+" HTTP/1.1\r\nhost: app.shop:8080\r\ncontent-length: 0\r\n\r\n")
		if got := header.Get("location"); status != c.status || got != c.location {
			t.Errorf("%s %s at %s: %d to %q, want %d to %q", c.method, c.target, doors[c.door].To, status, got, c.status, c.location)
		}
		r := doors[c.door]
		r.Method, r.Path, r.Host = c.method, c.target, "app.shop:8080"
		want, err := p.Decide(r)
		if err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(c.location, "?")
		if !want.Redirects() || !strings.HasSuffix(path, want.RedirectPath()) || want.Status != c.status {
			t.Errorf("%s %s at %s: the evaluator says %d to %q, want %d to %q", c.method, c.target, doors[c.door].To, want.Status, want.RedirectPath(), c.status, path)
		}
	}
}
