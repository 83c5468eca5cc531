package webhook

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	admission "k8s.io/api/admission/v1"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/known"
	"meshc.dev/meshc/webhook/internal/admit"
	"meshc.dev/meshc/webhook/internal/review"
)

// Paths of the two webhooks.
const (
	ValidatePath = "/validate"
	MutatePath   = "/mutate"
)

// Bounds of one question and of all together.
const (
	// MaxReview is the largest question, in bytes. An API server takes objects of 3 MiB,
	// of which a question may hold two.
	MaxReview = 8 << 20
	// maxWaiting bounds the bytes of all questions that are read or judged.
	maxWaiting = 128 << 20
	// maxJudged bounds the questions that are judged at a time; others wait.
	maxJudged = 16
	// Deadline is when a question is answered, whatever became of it. The configuration
	// gives 2 seconds.
	Deadline = 800 * time.Millisecond
	// sending bounds how long a sender may take.
	sending = 2 * time.Second
)

// Config is what a Server needs.
type Config struct {
	// Listen is the address for the API server, HTTP that of /metrics, /healthz and
	// /readyz, "" for none.
	Listen, HTTP string
	// TLS is the server's configuration, at least a certificate.
	TLS *tls.Config
	// Baseline holds the shipped policies; the user's own come with each release.
	Baseline fs.FS
	Log      *slog.Logger
	Now      func() time.Time
	Registry *prometheus.Registry
	// Ready says why an API server should ask another replica now, although this one has a
	// release; nil if it need not. Nil means that it never needs to.
	Ready func() error
	// Problems says what stands between this replica and a newer release, for the status. Nil
	// means that there is no source to ask.
	Problems func() []diag.Diagnostic
	// Drain is how long, after Run was told to end, new questions are answered still: until
	// nothing leads here any more. Connections end with their answers then. 0 for not at all.
	Drain time.Duration
}

// Server answers an API server.
type Server struct {
	c        Config
	listener net.Listener
	http     net.Listener // nil for none
	waiting  *semaphore.Weighted
	judging  *semaphore.Weighted
	shares   shares
	metrics  *metrics
	workers  atomic.Pointer[workers] // for the rules of what was published last, nil if it has none of its own
	steps    atomic.Pointer[[]step]
	ahead    atomic.Pointer[mark]  // what another replica wrote that has a later release, nil for nothing
	last     *admit.World          // of what was published or recalled last, nil for nothing
	ending   atomic.Bool           // told to end
	untaken  atomic.Pointer[error] // why what was published last is not judged by, nil if it is
	reach    atomic.Pointer[reach]
	audited  atomic.Pointer[Audit]
}

// step is an approved release and the instant from which it is in force.
type step struct {
	from     time.Time
	mark     mark // without roots
	world    *admit.World
	policies *guard.Engine
	known    guard.Known
	kinds    []Kind
}

// New opens the ports; Run answers.
func New(c Config) (*Server, error) {
	if c.TLS == nil || c.Baseline == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("webhook: TLS, policies, a clock and a log are needed")
	}
	s := &Server{c: c, waiting: semaphore.NewWeighted(maxWaiting), judging: semaphore.NewWeighted(maxJudged), shares: shares{most: maxShare}, metrics: newMetrics(c.Registry)}
	tellAsked(c.Registry, func() bool { r := s.reach.Load(); return r != nil && r.isAsked() })
	l, err := listen(c.Listen)
	if err != nil {
		return nil, err
	}
	s.listener = l
	if c.HTTP != "" {
		if s.http, err = listen(c.HTTP); err != nil {
			_ = l.Close() // nobody has used it
			return nil, err
		}
	}
	return s, nil
}

func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		d := diag.New(diag.CodeServerListen, diag.Pos{}, "cannot listen on %q: %v", address, err)
		return nil, diag.List{d.WithFix("choose another address of this machine, such as 127.0.0.1:18443, or end the process that has it")}.Err()
	}
	return l, nil
}

// Addr is the address for the API server.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Publish makes an approved commit's releases, with the policies in them, what is judged
// by. On an error what was there before stays.
func (s *Server) Publish(ctx context.Context, a approval.Approved) error {
	return s.take(ctx, a.Commit(), mark{Of: a.Record().Repository + " " + a.Environment(), Place: a.Record().Place}, a.Steps())
}

// take judges by the releases from now on, or notes why not: what was judged by before
// stays in force then.
func (s *Server) take(ctx context.Context, commit string, by mark, releases []release.Step) error {
	err := s.judgeBy(ctx, commit, by, releases)
	if s.untaken.Store(nil); err != nil {
		err = fmt.Errorf("the release of commit %.12s is not taken: %w", commit, err)
		s.untaken.Store(&err)
	}
	return err
}

func (s *Server) judgeBy(ctx context.Context, commit string, by mark, releases []release.Step) error {
	if len(releases) == 0 {
		return errors.New("the approval holds no release")
	}
	steps, last := make([]step, 0, len(releases)), s.last
	var knowledge []guard.Knowledge
	for i, r := range releases {
		by.Step = i
		one := step{from: r.From, mark: by, kinds: kindsOf(r.Release)}
		var err error
		if one.world, err = admit.See(commit, r.Release); err != nil {
			return err
		}
		one.world.After(last)
		last = one.world
		k, err := known.Of(r.Release)
		if err != nil {
			return err
		}
		if one.known, err = guard.NewKnown(k); err != nil {
			return err
		}
		knowledge = append(knowledge, k)
		steps = append(steps, one)
	}
	engine, own, err := s.policies(ctx, releases[0].Release, knowledge) // ends of something do not change policies
	if err != nil {
		return err
	}
	for i := range steps {
		steps[i].policies = engine
	}
	s.steps.Store(&steps)
	s.last = last
	s.workers.Swap(own).close()
	return nil
}

// Recall tells what was approved before, which nobody is judged by. The oldest comes
// first, and all before the first Publish.
func (s *Server) Recall(a approval.Approved) error {
	for _, r := range a.Steps() {
		world, err := admit.See(a.Commit(), r.Release)
		if err != nil {
			return err
		}
		world.After(s.last)
		s.last = world
	}
	return nil
}

// policies compiles the shipped policies with those of a release, for which there are
// workers then.
func (s *Server) policies(ctx context.Context, r release.Release, knowledge []guard.Knowledge) (*guard.Engine, *workers, error) {
	own := fstest.MapFS{}
	for _, p := range r.Paths() {
		if name, ok := strings.CutPrefix(p, release.PoliciesFolder); ok {
			text, _ := r.Artifact(p)
			own[name] = &fstest.MapFile{Data: text}
		}
	}
	var user fs.FS
	if len(own) > 0 {
		user = own
	}
	engine, ds := guard.New(ctx, s.c.Baseline, user)
	if err := ds.Err(); err != nil {
		return nil, nil, err
	}
	if engine.Objects() == 0 {
		return nil, nil, errors.New("there is no policy over objects")
	}
	if before := s.steps.Load(); before != nil {
		engine = engine.After((*before)[0].policies)
	}
	if !engine.Own() {
		return engine, nil, nil
	}
	setup, err := guard.Setup(s.c.Baseline, user, knowledge)
	if err != nil {
		return nil, nil, err
	}
	workers, err := newWorkers(setup, s.c.Log)
	if err != nil {
		return nil, nil, err
	}
	return engine.Elsewhere(workers), workers, nil
}

// inForce is what holds now, nil before the first release.
func (s *Server) inForce(now time.Time) *step {
	steps := s.steps.Load()
	if steps == nil {
		return nil
	}
	var found *step
	for i := range *steps {
		if one := &(*steps)[i]; !one.from.After(now) {
			found = one
		}
	}
	return found
}

// Ready says why no question should be asked here, nil if they should.
func (s *Server) Ready() error {
	if s.ending.Load() {
		return errors.New("it was told to end")
	}
	if s.inForce(s.c.Now()) == nil {
		return errors.New("no approved release yet")
	}
	if m := s.ahead.Load(); m != nil {
		return fmt.Errorf("another replica judges by a later release (rollbacks %d, position %d); if there is none, delete the configurations %s and %s", m.Place.Rollbacks, m.Place.Position, GuardName, InjectName)
	}
	if s.c.Ready != nil {
		return s.c.Ready()
	}
	return nil
}

// Run answers until ctx ends, and as long as Config.Drain says; then it finishes what it
// began.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := s.drained(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.watch(ctx) })
	questions := http.NewServeMux()
	questions.HandleFunc("POST "+ValidatePath, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, s.validate) })
	questions.HandleFunc("POST "+MutatePath, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, s.mutate) })
	s.run(ctx, group, tls.NewListener(s.listener, s.c.TLS), questions)
	if s.http != nil {
		s.run(ctx, group, s.http, s.pages())
	}
	defer func() { s.workers.Swap(nil).close() }()
	return group.Wait()
}

// drained is a context that ends Config.Drain after ctx.
func (s *Server) drained(told context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(told))
	stop := context.AfterFunc(told, func() {
		s.ending.Store(true)
		time.AfterFunc(s.c.Drain, cancel)
	})
	return ctx, func() { stop(); cancel() }
}

func (s *Server) run(ctx context.Context, group *errgroup.Group, l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: sending, ReadTimeout: sending, WriteTimeout: 2 * sending, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug),
	}
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving at %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*sending)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			return server.Close()
		}
		return nil
	})
}

// pages are for people and their tools.
func (s *Server) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET "+StatusPath, s.tellStatus)
	if s.c.Registry != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.c.Registry, promhttp.HandlerOpts{}))
	}
	return mux
}

// judge decides about one question.
type judge func(context.Context, *step, review.Review) verdict

// serve reads a question, has it judged and answers in time.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, decide judge) {
	began := s.c.Now()
	if s.ending.Load() {
		w.Header().Set("Connection", "close") // the next question goes elsewhere
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		s.refuse(w, http.StatusUnsupportedMediaType, "a review is sent as application/json")
		return
	}
	if r.Header.Get("Content-Encoding") != "" {
		s.refuse(w, http.StatusUnsupportedMediaType, "a review is sent without a content encoding")
		return
	}
	if r.ContentLength < 0 || r.ContentLength > MaxReview {
		s.refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a review has a Content-Length of at most %d bytes", MaxReview))
		return
	}
	if !s.waiting.TryAcquire(r.ContentLength) {
		s.refuse(w, http.StatusTooManyRequests, "too many reviews at a time")
		return
	}
	defer s.waiting.Release(r.ContentLength)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxReview))
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "the review was not sent to its end")
		return
	}
	q, err := review.Read(body)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), Deadline)
	defer cancel()
	v := s.decide(ctx, q, decide)
	s.metrics.answered(r.URL.Path, q, v, s.c.Now().Sub(began))
	s.log(q, v)
	answer, err := v.response(q.UID)
	if err != nil {
		s.refuse(w, http.StatusInternalServerError, "the answer cannot be written")
		return
	}
	out := admission.AdmissionReview{Response: answer}
	out.APIVersion, out.Kind = admission.SchemeGroupVersion.String(), "AdmissionReview"
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // who went away has no use for it
}

// refuse answers what is no question.
func (s *Server) refuse(w http.ResponseWriter, status int, why string) {
	s.metrics.refused(status)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.Error(w, sentence(diag.New(diag.CodeReview, diag.Pos{}, "%s", cut(why, maxReason)), false), status)
}

// decide has a question judged when there is room, before ctx ends.
func (s *Server) decide(ctx context.Context, q review.Review, decide judge) verdict {
	now := s.c.Now()
	by := s.inForce(now)
	if by == nil {
		d := diag.New(diag.CodeNotReady, diag.Pos{}, "meshc has no approved release to judge by")
		return unable(http.StatusServiceUnavailable, d.WithFix("try again; if it stays, see the log of meshc webhook"))
	}
	leave, err := s.shares.acquire(ctx, q.Namespace)
	if err != nil {
		return busy("no room for another review about this namespace")
	}
	if err := s.judging.Acquire(ctx, 1); err != nil {
		leave()
		return busy("no room for another review")
	}
	done := make(chan verdict, 1)
	go func() {
		defer leave()
		defer s.judging.Release(1)
		defer func() {
			if p := recover(); p != nil {
				s.c.Log.Error("a review could not be judged", "reason", fmt.Sprint(p), "stack", string(debug.Stack()))
				done <- unable(http.StatusInternalServerError, diag.New(diag.CodeReview, diag.Pos{}, "the review could not be judged"))
			}
		}()
		done <- decide(ctx, by, q)
	}()
	select {
	case v := <-done:
		return v
	case <-ctx.Done():
		return busy(fmt.Sprintf("the review was not judged within %s", Deadline))
	}
}

func unable(status int32, d diag.Diagnostic) verdict {
	return verdict{problems: diag.List{d}, status: status}
}

func busy(why string) verdict {
	return unable(http.StatusTooManyRequests, diag.New(diag.CodeBusy, diag.Pos{}, "%s", why).WithFix("try again"))
}

// mutate gives a pod its sidecar.
func (s *Server) mutate(_ context.Context, by *step, q review.Review) verdict {
	patch, problems := by.world.Mutate(q)
	return verdict{problems: problems, patch: patch}
}

// validate asks the release and the policies.
func (s *Server) validate(ctx context.Context, by *step, q review.Review) verdict {
	object := guard.Object{
		Operation: string(q.Operation), Group: q.Group, Version: q.Version, Kind: q.Kind, Subresource: q.SubResource,
		Namespace: q.Namespace, Name: q.Name, New: q.New, Old: q.Old, User: q.User, Groups: q.Groups,
		Mesh: by.known, Enforcement: by.world.Enforcement(), At: s.c.Now(),
	}
	res, err := by.policies.CheckObject(ctx, object, guard.ObjectTimeout)
	if err != nil {
		return busy("the policies were not done in time")
	}
	v := verdict{found: res.Found}
	for _, d := range by.world.Validate(q) {
		if d.Code == diag.CodeDrift { // a rule, too: intent may let one object be edited by hand
			edited := object
			if q.SubResource == "scale" {
				edited.Kind = "Deployment"
			}
			f := edited.Settle(guard.Drift(), d)
			v.found, d = append(v.found, f), f.Problem
		}
		v.problems = append(v.problems, d)
	}
	v.problems = append(v.problems, res.Findings...)
	return v
}

// own reports whether it is what a webhook tries itself, to see whether it is asked.
func own(q review.Review) bool { return q.DryRun && strings.HasPrefix(q.Name, TriedName) }

// log tells what was refused: an answer reaches one user, the log the operator.
func (s *Server) log(q review.Review, v verdict) {
	if v.allowed() || own(q) {
		return
	}
	s.c.Log.Warn("refused", "operation", string(q.Operation), "kind", q.Kind, "subresource", q.SubResource, "namespace", q.Namespace, "name", q.Name,
		"user", q.User, "dryRun", q.DryRun, "code", v.problems[0].Code, "reason", v.problems[0].Text)
}
