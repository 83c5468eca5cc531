package envoy

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/draw"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/rehearsal"
)

var (
	seed   = flag.Uint64("seed", 1, "seed of the random meshes; 0 takes a fresh one")
	meshes = flag.Int("meshes", usualMeshes, "number of random meshes")
	each   = flag.Int("each", usualEach, "number of requests for each of them")
)

const (
	usualMeshes = 6
	usualEach   = 450
	enough      = 34 // meshes, in which every kind of request has to have come up; `make pairs` takes as many
	parallel    = 4  // requests under way at once
	shown       = 10 // disagreements of a mesh that are told one by one
)

// compileDate is before the end of everything temporary.
func compileDate() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

func realEnvoy(t *testing.T) envoybin.Binary {
	t.Helper()
	b, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// trial is one request on both sides.
type trial struct {
	request compiler.Request
	want    compiler.Answer
	got     rehearsal.Reply
	differs string
	missing bool // one host has no door for it
	copies  int  // that arrived
}

// try sends requests through real Envoys and asks the evaluator.
func try(t *testing.T, bin envoybin.Binary, p *compiler.Program, rs []compiler.Request) []trial {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	reh, err := p.RehearseSigned(rs, signer{draw.SigningKey()}.rehearsed(p))
	if err != nil {
		t.Fatal(err)
	}
	stage, err := rehearsal.Start(ctx, bin, reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Stop()
	out := make([]trial, len(rs))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, r := range rs {
		g.Go(func() error {
			r, want, err := numbered(p, r, i)
			if err != nil {
				return fmt.Errorf("%+v: %w", r, err)
			}
			out[i] = trial{request: r, want: want}
			if reh.Doors[i].Missing != "" {
				out[i].missing = true
				return nil
			}
			if out[i].got, err = stage.Ask(ctx, reh.Doors[i], r); err != nil {
				out[i].differs = err.Error()
				return nil
			}
			out[i].differs = rehearsal.Differs(want, r, out[i].got)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	compareCopies(ctx, t, p, stage, out)
	return out
}

// least is how many requests of each kind of outcome a run of the usual size must
// have compared: if the generator degenerates, the test has to fail.
func least() map[string]int {
	return map[string]int{
		"all": 5000, "forward": 400, "split": 120, "external": 60, "copy": 60, "denied": 400, "notFound": 400, "redirect": 50, "abort": 40,
		"answered by cors": 3, "answered by respond": 30, "tcp forward": 150, "tcp denied": 200, "attached": 40, "moved": 150,
		"denied by users": 20, "signed in": 40, "denied by deny": 80, "granted by header": 2, "granted by query": 1, "denied by header": 10, "denied by csrf": 20, "tcp denied by deny": 40, "answered by gateway port": 15, "denied by gateway port": 8,
		"proxy's 400": 800, "proxy's 403": 10, "proxy's 404": 60, "proxy's 426": 100, "proxy's 431": 15, "proxy's 501": 20, "ended by a proxy": 300,
		"HTTP/1.0": 150, "HTTP/1.1": 3000, "HTTP/2": 800, "handshake": 30, "told scheme": 10, "WebSocket": 10, "port's 308": 20, "port's 403": 8, "port's 421": 15,
	}
}

// TestEvaluatorAndEnvoyAgree is the differential test.
func TestEvaluatorAndEnvoyAgree(t *testing.T) {
	bin := realEnvoy(t)
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	counts := map[string]int{}
	for i := range *meshes {
		s := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) { agree(t, bin, s, counts) })
	}
	t.Logf("seed %d, %d meshes: %v", first, *meshes, counts)
	if t.Failed() || *meshes < enough || *each < usualEach {
		return
	}
	for kind, n := range least() {
		if counts[kind] < n {
			t.Errorf("only %d requests of kind %q were compared, at least %d should be", counts[kind], kind, n)
		}
	}
}

// agree compares evaluator and Envoy on one mesh.
func agree(t *testing.T, bin envoybin.Binary, s uint64, counts map[string]int) {
	a := ask(s)
	rs := make([]compiler.Request, *each)
	for i := range rs {
		rs[i] = a.signed(a.form(a.request()))
	}
	bad, byHeaders, sheds := 0, headersDecide(a.mesh.Program), strings.Contains(a.mesh.String(), "admission: ")
	for _, x := range try(t, bin, a.mesh.Program, rs) {
		if x.missing {
			continue
		}
		counts["all"]++
		counts["copy"] += x.copies
		counts[kind(x)]++
		if how := byHeaders(x.want); how != "" {
			counts[how]++
		}
		if x.want.Scope.Protocol != "tcp" {
			counts["HTTP/"+version(x.request)]++
		}
		if x.want.Handshake {
			counts["handshake"]++
		}
		if slices.ContainsFunc(x.want.Steps, func(s compiler.Step) bool { return s.Package != "" }) {
			counts["attached"]++
		}
		if x.want.Moved() {
			counts["moved"]++
		}
		if slices.ContainsFunc(x.request.Users, func(u compiler.User) bool { return u.Token == compiler.SignedIn }) && x.got.Seen != nil {
			counts["signed in"]++
		}
		if x.got.Seen != nil && slices.ContainsFunc(x.want.Steps, func(s compiler.Step) bool { return strings.Contains(s.Path, "/host/"+draw.WhoHost+"/route/u") }) {
			counts["chosen by user"]++
		}
		if x.want.Client != "" && x.got.Seen != nil {
			counts["told client"]++
		}
		if x.want.Scheme == "https" && x.request.Port != "https" && x.got.Seen != nil && strings.HasPrefix(x.request.To, "gateway/") {
			counts["told scheme"]++
		}
		if x.got.Echo != "" {
			counts["WebSocket"]++
		}
		if x.want.AtDoor() {
			counts[fmt.Sprintf("port's %d", x.want.Status)]++
		}
		if x.differs == "" {
			continue
		}
		if sheds && x.got.Seen == nil && x.got.Status == http.StatusServiceUnavailable {
			counts["shed"]++ // where all others have failed, which is a matter of chance
			continue
		}
		if bad++; bad <= shown {
			t.Errorf("%.2000s\n  %.1000s\n  evaluator: %s, by %v", encode(x.request), x.differs, x.want.Words(), x.want.Steps)
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d requests differ; again with: go test ./ci/envoy -seed=%d -meshes=1 -each=%d; the mesh:\n%s", bad, len(rs), s, len(rs), a.mesh)
	}
}

// headersDecide says of answers that a grant lets a request through because of a header, the query, the host or its user,
// or that a deny refuses it.
func headersDecide(p *compiler.Program) func(compiler.Answer) string {
	how := map[string]string{} // by the scope and the deciding step
	for _, d := range p.Decisions() {
		for _, r := range d.Access {
			for _, t := range r.When {
				_, once := t.Dim.Once()
				_, any := t.Dim.Header()
				asks := strings.HasPrefix(string(t.Dim), "user:") || strings.HasPrefix(string(t.Dim), "claim:")
				switch key := d.Scope.String() + string(r.From[0]); {
				case once && !t.Not:
					how[key] = "granted by header"
				case any && !t.Not:
					how[key] = "denied by header"
				case t.Dim == "parameters" && !t.Not && r.Then.Verdict == "forward":
					how[key] = "granted by query"
				case t.Dim == "parameters" && !t.Not:
					how[key] = "denied by query"
				case (t.Dim == "source" || t.Dim == "client") && !t.Not:
					how[key] = map[bool]string{true: "granted by address", false: "denied by address"}[r.Then.Verdict == "forward"]
				case t.Dim == "host" && !t.Not:
					how[key] = map[bool]string{true: "granted by host", false: "denied by host"}[r.Then.Verdict == "forward"]
				case asks && !t.Not && r.Then.Verdict == "forward":
					how[key] = "granted by user"
				case asks && r.Then.By == "deny":
					how[key] = "denied by user"
				}
			}
		}
	}
	return func(want compiler.Answer) string {
		if len(want.Steps) == 0 {
			return ""
		}
		return how[want.Scope.String()+want.Steps[len(want.Steps)-1].Path]
	}
}

// version is that of HTTP that a request comes by.
func version(r compiler.Request) string {
	if r.HTTP == "" {
		return compiler.HTTP11
	}
	return r.HTTP
}

// kind is the kind of outcome that a request stands for.
func kind(x trial) string {
	o := x.want.Outcome
	switch {
	case x.want.Scope.Protocol == "tcp" && o.By != "":
		return "tcp denied by " + o.By
	case x.want.Scope.Protocol == "tcp":
		return "tcp " + string(o.Verdict)
	case x.want.Reset():
		return "ended by a proxy"
	case x.want.ByProxy():
		return fmt.Sprintf("proxy's %d", x.want.Status)
	case x.want.Answered():
		return "answered by " + o.By
	case o.Verdict == "denied" && o.By != "":
		return "denied by " + o.By
	case o.Verdict != "redirect" && x.want.Status != 0 && x.want.Status != 403 && x.want.Status != 404,
		o.Verdict == "redirect" && !x.want.Redirects():
		return "abort"
	case len(o.Shares) > 0 && strings.HasPrefix(o.Shares[0].Target, "external/"):
		return "external"
	case len(o.Shares) > 1:
		return "split"
	}
	return string(o.Verdict)
}
