// Package replicas runs two servers and two webhooks of one cluster as programs, and ends
// them one after the other while they are asked: nothing that is asked fails.
package replicas

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/examples"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/programs"
)

const (
	trustDomain = "bookinfo.example"
	environment = "kubernetes"
	patience    = time.Minute
)

// built is the folder of meshc and meshc-agent, as users get them.
var built string

// TestMain builds the programs once: linking them takes longer than most of a test.
func TestMain(m *testing.M) {
	code, err := withPrograms(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withPrograms(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "meshc-replicas-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	built = dir
	if err := programs.Into(context.Background(), dir); err != nil {
		return 0, err
	}
	return run(), nil
}

// world is a cluster, a signed repository and the programs that follow it.
type world struct {
	*kubetest.Cluster
	t    *testing.T
	dir  string
	bin  string
	repo *people.Repo
}

// program is a replica that can be ended and started again.
type program struct {
	name string
	args []string
	http string
	*child.Child
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: kubetest.ForTest(t, kubetest.Options{}), t: t, dir: t.TempDir(), bin: filepath.Join(built, "meshc")}
	w.must(w.Apply(t.Context(), `{apiVersion: v1, kind: Namespace, metadata: {name: meshc-system}}`,
		`{apiVersion: v1, kind: Secret, metadata: {name: meshc-authority, namespace: meshc-system}}`,
		`{apiVersion: v1, kind: Secret, metadata: {name: meshc-webhook, namespace: meshc-system}}`))
	signer, err := people.FindSigner(w.bin, w.dir)
	w.must(err)
	var keys map[string]string
	w.repo, keys, err = people.New(t.Context(), "git", signer, w.dir)
	w.must(err)
	files, err := fs.Sub(examples.FS, "bookinfo/intent")
	w.must(err)
	w.must(os.CopyFS(w.repo.Work, files))
	root := w.commit("first release")
	w.must(os.WriteFile(filepath.Join(w.dir, "trust.yaml"), []byte(people.TrustPolicy(root, environment, keys)), 0o600))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// commit signs everything in the work tree and pushes it.
func (w *world) commit(message string) string {
	w.t.Helper()
	hash, err := w.repo.Commit(w.t.Context(), people.Carol, true, message)
	w.must(err)
	_, err = w.repo.Run(w.t.Context(), "push", "--quiet", "origin", "main")
	w.must(err)
	return hash
}

func (w *world) address() string {
	w.t.Helper()
	a, err := freeport.Address()
	w.must(err)
	return a
}

// program is one that follows the repository.
func (w *world) program(name, command string, more ...string) *program {
	p := &program{name: name, http: w.address()}
	p.args = append([]string{command, "--repo", w.repo.Origin, "--trust", "trust.yaml", "--env", environment, "--poll", "200ms",
		"--kubeconfig", w.Kubeconfig, "--state", name, "--http", p.http}, more...)
	w.t.Cleanup(func() {
		if p.Child != nil {
			p.Stop(time.Second)
		}
		if text, err := os.ReadFile(filepath.Join(w.dir, name+".log")); w.t.Failed() && err == nil {
			w.t.Logf("%s:\n%s", name, text[max(0, len(text)-4000):])
		}
		if text, err := os.ReadFile(filepath.Join(w.dir, name+".log")); err == nil && strings.Contains(string(text), "PRIVATE KEY") {
			w.t.Errorf("%s logged a key", name)
		}
	})
	return p
}

// start runs a program until it says that it is ready.
func (w *world) start(p *program) {
	w.t.Helper()
	var err error
	p.Child, err = child.Start(child.Spec{Path: w.bin, Args: p.args, Dir: w.dir, Log: filepath.Join(w.dir, p.name+".log"), Bound: true})
	w.must(err)
	w.until(p.name+" is ready", func() error {
		select {
		case <-p.Done():
			w.t.Fatalf("%s ended: %v", p.name, p.Err())
		default:
		}
		return page("http://"+p.http+"/readyz", "ok")
	})
}

// page asks for a page that has that text.
func page(address, text string) error {
	res, err := http.Get(address)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || !strings.Contains(string(body), text)) {
		err = fmt.Errorf("%s: %.200s", res.Status, body)
	}
	return err
}

func (w *world) until(what string, ok func() error) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("it never came to pass that %s: %v", what, err)
		}
	}
}

// kill ends a program as a machine does.
func (w *world) kill(p *program) {
	w.t.Helper()
	w.must(p.Signal(syscall.SIGKILL))
	w.ended(p)
}

// ended waits for a program's end.
func (w *world) ended(p *program) {
	w.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		w.t.Fatalf("%s does not end", p.name)
	}
}

// halt stops a program and returns when none of its threads runs any more: a signal is on its
// way when its call returns, and a parent is told of a stop that is complete.
func (w *world) halt(p *program) {
	w.t.Helper()
	w.must(p.Signal(syscall.SIGSTOP))
	w.until(p.name+" stands still", func() error {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(p.PID(), &status, syscall.WUNTRACED|syscall.WNOHANG, nil)
		if err == nil && !status.Stopped() {
			err = errors.New("it runs")
		}
		return err
	})
}

// service leads connections to replicas in turn, to the next one if one is away or not ready.
type service struct {
	address string
	to      []replica
}

// replica is one as its service sees it.
type replica struct {
	address   string
	unready   atomic.Bool  // gets no new connections
	led, gone atomic.Int64 // connections that lead there, and those that ended
	sent      atomic.Int64 // bytes to it
}

func (w *world) service(to ...string) *service {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	w.t.Cleanup(func() { _ = l.Close() })
	s := &service{address: l.Addr().String(), to: make([]replica, len(to))}
	for i, address := range to {
		s.to[i].address = address
	}
	go func() {
		for turn := 1; ; turn++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.lead(c, turn)
		}
	}()
	return s
}

func (s *service) lead(c net.Conn, turn int) {
	defer c.Close()
	for i := range s.to {
		if s.to[(turn+i)%len(s.to)].lead(c) {
			return
		}
	}
}

// lead is false if the replica takes no connection.
func (r *replica) lead(c net.Conn) bool {
	if r.unready.Load() {
		return false
	}
	r.led.Add(1) // before it can carry anything: what counts connections must not miss one
	out, err := net.DialTimeout("tcp", r.address, 5*time.Second)
	if err != nil {
		r.led.Add(-1)
		return false
	}
	defer r.gone.Add(1)
	go func() { _, _ = io.Copy(counted{out, &r.sent}, c); _ = out.Close() }()
	_, _ = io.Copy(c, out)
	return true
}

// counted counts what is written.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// load asks again and again, each of n on its own, until it is stopped.
type load struct {
	asked  []atomic.Int64 // by each
	failed atomic.Int64
	stop   func()
}

func (w *world) load(n int, every time.Duration, ask func(i int) error) *load {
	ctx, cancel := context.WithCancel(w.t.Context())
	var group sync.WaitGroup
	l := &load{asked: make([]atomic.Int64, n), stop: func() { cancel(); group.Wait() }}
	for i := range n {
		group.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				err := ask(i)
				if l.asked[i].Add(1); err != nil && l.failed.Add(1) < 5 {
					w.t.Errorf("%s: %v", time.Now().Format(time.TimeOnly), err)
				}
			}
		})
	}
	return l
}

// more waits until each has asked n times more: what anybody asked before is over, if n is
// not 0.
func (w *world) more(l *load, n int64) {
	w.t.Helper()
	for i := range l.asked {
		from := l.asked[i].Load()
		w.until("more is asked", func() error {
			if got := l.asked[i].Load() - from; got < n {
				return fmt.Errorf("%d of %d by %d", got, n, i)
			}
			return nil
		})
	}
}

// all is how often was asked.
func (l *load) all() (n int64) {
	for i := range l.asked {
		n += l.asked[i].Load()
	}
	return n
}

// workload renews its certificate as an agent does.
type workload struct {
	id    spiffeid.ID
	key   *ecdsa.PrivateKey
	holds ca.Issued
}

func (v *workload) request() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{v.id.URL()}}, key)
	return key, csr, err
}

func (v *workload) join(ctx context.Context, server, token, pin string) error {
	return v.ask(ctx, server, ca.Trust{TrustDomain: v.id.TrustDomain(), Pins: []string{pin}, Clock: time.Now},
		func(c *ca.Client, csr []byte) (ca.Issued, error) { return c.Join(ctx, token, csr) })
}

// renew tries again what is worth it, as agents do; for them it has hours.
func (v *workload) renew(ctx context.Context, server string) error {
	mine := &tls.Certificate{Certificate: [][]byte{v.holds.Chain[0].Raw}, PrivateKey: v.key, Leaf: v.holds.Chain[0]}
	trust := ca.Trust{TrustDomain: v.id.TrustDomain(), Roots: v.holds.Bundle, Certificate: mine, Clock: time.Now}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := v.ask(ctx, server, trust, func(c *ca.Client, csr []byte) (ca.Issued, error) { return c.Renew(ctx, "", csr) })
		if err == nil || !ca.Temporary(err) || time.Now().After(end) {
			return err
		}
	}
}

func (v *workload) ask(ctx context.Context, server string, trust ca.Trust, call func(*ca.Client, []byte) (ca.Issued, error)) error {
	key, csr, err := v.request()
	if err != nil {
		return err
	}
	c, err := ca.Dial([]string{server}, trust)
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := call(c, csr)
	if err != nil {
		return err
	}
	if before := v.holds.Bundle; before != nil && !slices.EqualFunc(before, got.Bundle, (*x509.Certificate).Equal) {
		return errors.New("another root")
	}
	v.key, v.holds = key, got
	return nil
}

// servers are two with one authority that were started at once, and where they listen.
func (w *world) servers() (both []*program, listen []string) {
	w.t.Helper()
	listen = []string{w.address(), w.address()}
	for i, name := range []string{"a", "b"} {
		both = append(both, w.program(name, "serve", "--trust-domain", trustDomain, "--authority", "secret/meshc-system/meshc-authority",
			"--listen", listen[i], "--peer", listen[1-i]))
	}
	for _, s := range both {
		var err error
		s.Child, err = child.Start(child.Spec{Path: w.bin, Args: s.args, Dir: w.dir, Log: filepath.Join(w.dir, s.name+".log"), Bound: true})
		w.must(err)
	}
	for _, s := range both {
		w.until(s.name+" is ready", func() error { return page("http://"+s.http+"/readyz", "ok") })
	}
	return both, listen
}

// token is one for an account, with the server's fingerprint.
func (w *world) token(account string) (text, pin string) {
	w.t.Helper()
	out, err := child.Run(w.t.Context(), child.Spec{Path: w.bin, Dir: w.dir, Args: []string{"token", "create", "--identity", "bookinfo/" + account,
		"--authority", "secret/meshc-system/meshc-authority", "--kubeconfig", w.Kubeconfig}}, 0)
	w.must(err)
	fields := strings.Fields(string(out.Stdout))
	return fields[1], fields[3]
}

// TestEitherServerMayEnd: two servers with one authority are killed in turn while workloads
// renew their certificates at whichever answers. One that starts again has the same roots, is
// ready when it serves what the other one does, and takes the other one's tokens.
func TestEitherServerMayEnd(t *testing.T) {
	w := newWorld(t)
	servers, listen := w.servers()
	at := w.service(listen...).address
	var all []*workload
	for i := range 8 {
		v := &workload{id: spiffeid.RequireFromString(fmt.Sprintf("spiffe://%s/ns/bookinfo/sa/w%d", trustDomain, i))}
		text, pin := w.token(fmt.Sprintf("w%d", i))
		w.must(v.join(t.Context(), at, text, pin))
		if err := v.join(t.Context(), listen[i%2], text, pin); err == nil {
			t.Fatal("a token was used twice")
		}
		all = append(all, v)
	}
	under := w.load(len(all), 150*time.Millisecond, func(i int) error { return all[i].renew(t.Context(), at) })
	for round := range 4 {
		w.more(under, 8)
		victim, other := servers[round%2], servers[1-round%2]
		w.kill(victim)
		w.must(os.WriteFile(filepath.Join(w.repo.Work, "README"), fmt.Append(nil, "round ", round), 0o600))
		commit := w.commit(fmt.Sprint("round ", round))
		w.until("the other one serves the next commit", func() error { return page("http://"+other.http+"/metrics", commit) })
		w.more(under, 8)
		if round == 3 { // on another machine, with nothing but the Secret
			w.must(os.RemoveAll(filepath.Join(w.dir, victim.name)))
		}
		w.start(victim)
		w.must(page("http://"+victim.http+"/metrics", commit)) // ready means that it has it
	}
	w.more(under, 8)
	under.stop()
	t.Logf("%d renewals, %d failed", under.all(), under.failed.Load())
}

// agent starts a real meshc-agent with a real Envoy that knows all the servers.
func (w *world) agent(account, token, pin string, servers ...string) *child.Child {
	w.t.Helper()
	envoy, err := envoybin.Find(w.t.Context(), envoybin.Options{Download: true})
	w.must(err)
	state, err := os.MkdirTemp("", "ma") // sockets want a short path
	w.must(err)
	w.t.Cleanup(func() { _ = os.RemoveAll(state) })
	file := filepath.Join(state, "token")
	w.must(os.WriteFile(file, []byte(token), 0o600))
	args := []string{"--identity", "bookinfo/" + account, "--join-token-file", file, "--server-fingerprint", pin, "--state", state, "--envoy-path", envoy.Path, "--drain", "0s"}
	for _, s := range servers {
		args = append(args, "--server", s)
	}
	c, err := child.Start(child.Spec{Path: filepath.Join(built, "meshc-agent"), Args: append(args, "--", "--concurrency", "1", "-l", "error"), Dir: w.dir, Log: filepath.Join(w.dir, "agent.log"), Bound: true})
	w.must(err)
	w.t.Cleanup(func() { c.Stop(5 * time.Second) })
	return c
}

// serves says whether that many proxies have a stream with a server.
func serves(p *program, n int) error {
	return page("http://"+p.http+"/metrics", fmt.Sprintf("meshc_xds_connected_proxies{protocol=\"delta\"} %d\n", n))
}

// TestAnAgentGoesToTheOtherServer: an agent that knows both servers has its Envoy at one of
// them at a time, whichever that is. The first is away when it joins.
func TestAnAgentGoesToTheOtherServer(t *testing.T) {
	w := newWorld(t)
	servers, listen := w.servers()
	text, pin := w.token("reviews-v1")
	w.kill(servers[0])
	agent := w.agent("reviews-v1", text, pin, listen...)
	for round := range 4 {
		gone, here := servers[round%2], servers[1-round%2]
		w.until("the proxy is at "+here.name, func() error { return serves(here, 1) })
		w.start(gone)
		w.must(serves(here, 1)) // what stands is kept
		if err := serves(gone, 1); err == nil {
			t.Errorf("round %d: the proxy is at both", round)
		}
		w.kill(here)
	}
	select {
	case <-agent.Done():
		t.Errorf("the agent ended: %v", agent.Err())
	default:
	}
}

// webhooks are two with one bundle, which an API server asks.
type webhooks struct {
	*world
	*service
	both []*program
}

// askers ask the webhooks about pods, each in a namespace of its own, which has its share of a
// webhook.
const askers = 5

func newWebhooks(t *testing.T, more ...string) *webhooks {
	t.Helper()
	w := newWorld(t)
	listen := []string{w.address(), w.address()}
	h := &webhooks{world: w, service: w.service(listen...)}
	for i, name := range []string{"c", "d"} {
		h.both = append(h.both, w.program(name, "webhook", append(more, "--authority", "secret/meshc-system/meshc-webhook", "--listen", listen[i], "--url", "https://"+h.service.address)...))
		h.start(i)
	}
	w.until("the webhook is asked", func() error {
		_, err := w.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "meshc-guard", metav1.GetOptions{})
		return err
	})
	for i := range askers {
		w.must(w.Apply(t.Context(), fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: plain%d, labels: {meshc.dev/inject: enabled}}}`, i)))
		w.until("the API server asks", func() error { return h.pod(i) })
	}
	return h
}

// start starts a replica, which gets connections when it is ready.
func (h *webhooks) start(at int) {
	h.t.Helper()
	h.to[at].unready.Store(true)
	h.world.start(h.both[at])
	h.to[at].unready.Store(false)
}

// review is less than the API server sends with a question about one of our pods, and more
// than all that it sends besides in that time, in bytes: a webhook tries itself now and again
// whether it is asked.
const review = 32 << 10

// pod makes one, by a dry run. One that nobody is asked about would be stored without a
// sidecar.
func (h *webhooks) pod(asker int) error {
	made, err := h.Client.CoreV1().Pods(fmt.Sprint("plain", asker)).Create(h.t.Context(), &core.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "x", Annotations: map[string]string{"size": strings.Repeat("x", review)}},
		Spec:       core.PodSpec{Containers: []core.Container{{Name: "a", Image: "a"}}},
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil && !slices.ContainsFunc(made.Spec.InitContainers, func(c core.Container) bool { return c.Name == "meshc-proxy" }) {
		err = errors.New("the webhook was not asked")
	}
	return err
}

// leave has the API server leave its connections to a replica, each of which ends with the
// next answer: it asks as much at once as it has connections to both.
func (h *webhooks) leave(at int) {
	h.t.Helper()
	h.until("no connection leads to "+h.both[at].name, func() error {
		var open, all int64
		for i := range h.to {
			gone := h.to[i].gone.Load() // first: no more than there are
			n := h.to[i].led.Load() - gone
			all += n
			if i == at {
				open = n
			}
		}
		if open == 0 {
			return nil
		}
		var group errgroup.Group
		for i := range int(all) {
			group.Go(func() error { return h.pod(i % askers) })
		}
		if err := group.Wait(); err != nil {
			h.t.Error(err)
		}
		return fmt.Errorf("%d do", open)
	})
}

// TestEitherWebhookMayEnd: two webhooks with one bundle end in turn, as their pods do when they
// are replaced, while the API server asks them: a replica is told to end, is not ready, gets no
// new connections and ends those that it has.
func TestEitherWebhookMayEnd(t *testing.T) {
	w := newWebhooks(t, "--drain", "10s")
	under := w.load(askers, 50*time.Millisecond, w.pod)
	for at, p := range w.both {
		w.more(under, 20)
		w.must(p.Signal(syscall.SIGTERM))
		w.until(p.name+" is not ready", func() error {
			if err := page("http://"+p.http+"/readyz", "ok"); err == nil {
				return errors.New("it is")
			}
			return nil
		})
		w.to[at].unready.Store(true)
		w.leave(at)
		w.ended(p)
		w.more(under, 20)
		w.start(at)
	}
	w.more(under, 20)
	under.stop()
	t.Logf("%d questions, %d not answered", under.all(), under.failed.Load())
	for _, h := range w.both {
		text, err := os.ReadFile(filepath.Join(w.dir, h.name+".log"))
		w.must(err)
		if strings.Contains(string(text), "MESH0708") {
			t.Errorf("%s put back what the other one wrote", h.name)
		}
	}
}

// asking has each asker ask so many times. The result waits for them, and tells how many
// questions nobody answered.
func (h *webhooks) asking(times int) (lost func() int64) {
	var group sync.WaitGroup
	var failed atomic.Int64
	for i := range askers {
		group.Go(func() {
			for range times {
				err := h.pod(i)
				switch {
				case err == nil:
				case strings.Contains(err.Error(), "failed calling webhook"):
					failed.Add(1)
				default:
					h.t.Error(err)
				}
			}
		})
	}
	return func() int64 { group.Wait(); return failed.Load() }
}

// hold stops a replica and returns when it holds one of so many questions of each asker. A
// connection has one at a time, so that no more are lost than connections led there in all but
// those that had ended before.
func (h *webhooks) hold(times int) (at int, lost func() int64, before int64) {
	h.t.Helper()
	from := [2]int64{h.to[0].sent.Load(), h.to[1].sent.Load()}
	h.must(h.pod(0))
	if h.to[1].sent.Load() >= from[1]+review { // an API server takes the connection that it used last
		at = 1
	}
	before = h.to[at].gone.Load()
	h.halt(h.both[at])
	sent := h.to[at].sent.Load()
	lost = h.asking(times)
	h.until(h.both[at].name+" holds a question about a pod", func() error {
		if n := h.to[at].sent.Load() - sent; n < review {
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
	return at, lost, before
}

// TestAWebhookThatIsKilledLosesOnlyWhatItWasAsked: a replica is killed with questions in its
// hands. Those fail, because an API server does not ask again; whoever does asks the other
// replica.
func TestAWebhookThatIsKilledLosesOnlyWhatItWasAsked(t *testing.T) {
	w := newWebhooks(t)
	for round := range 3 {
		if n := w.asking(10)(); n > 0 {
			t.Errorf("round %d: %d questions failed beside two replicas", round, n)
		}
		at, lost, before := w.hold(20)
		victim := w.both[at]
		w.kill(victim)
		n, most := lost(), w.to[at].led.Load()-before
		if n == 0 || n > most {
			t.Errorf("round %d: %s was killed with a question", round, victim.name)
		}
		t.Logf("round %d: %d questions were lost with %s over %d connections", round, n, victim.name, most)
		w.start(at)
	}
}

// TestAWebhookThatHangsCostsOneQuestionForEachConnection: a replica that stops without closing
// anything fails one question on each connection to it. When nothing leads there any more, as
// when it is no longer ready, the other one is asked alone.
func TestAWebhookThatHangsCostsOneQuestionForEachConnection(t *testing.T) {
	w := newWebhooks(t)
	if n := w.asking(10)(); n > 0 {
		t.Errorf("%d questions failed beside two replicas", n)
	}
	at, lost, before := w.hold(20)
	w.to[at].unready.Store(true)
	all := lost()
	w.until("the other one is asked alone", func() error {
		n := w.asking(20)()
		if all += n; n > 0 {
			return fmt.Errorf("%d questions failed", n)
		}
		return nil
	})
	most := w.to[at].led.Load() - before
	if all == 0 || all > most {
		t.Errorf("%s hangs with a question", w.both[at].name)
	}
	t.Logf("%d questions were lost with %s over %d connections", all, w.both[at].name, most)
}
