package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admission "k8s.io/api/admission/v1"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/policies"
)

// running is a server with a release, and a client that trusts it.
type running struct {
	*Server
	client *http.Client
	url    string
}

func start(t *testing.T) *running {
	t.Helper()
	r, _ := startDraining(t, 0)
	return r
}

// startDraining also returns what tells it to end.
func startDraining(t *testing.T, drain time.Duration) (*running, context.CancelFunc) {
	t.Helper()
	var own bytes.Buffer
	certs, err := OpenCertificates(t.Context(), kept.File(filepath.Join(t.TempDir(), "roots.json")), []string{"127.0.0.1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0", TLS: certs.TLS(), Baseline: policies.FS,
		Log: slog.New(slog.NewTextHandler(&own, nil)), Now: time.Now, Registry: prometheus.NewRegistry(), Drain: drain,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the webhook ended with %v", err)
		}
	})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certs.Bundle())
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(client.CloseIdleConnections)
	return &running{s, client, "https://" + s.Addr().String()}, stop
}

// A webhook that was told to end answers as long as something may still lead to it, says
// that it should not be asked, and ends each connection with its answer.
func TestItAnswersUntilNothingLeadsThere(t *testing.T) {
	for drain := 3 * time.Second; !drains(t, drain); drain *= 4 {
		t.Logf("the machine is too busy to ask within %s", drain)
	}
}

// drains reports false if the time was over before all was asked.
func drains(t *testing.T, drain time.Duration) bool {
	t.Helper()
	r, stop := startDraining(t, drain)
	r.publish(t)
	if a, _, _ := r.ask(t, ValidatePath, podWith("")); !a.Allowed {
		t.Fatalf("before: %+v", a)
	}
	told := time.Now()
	stop()
	for r.Ready() == nil {
		if time.Since(told) > time.Minute {
			t.Fatal("it stays ready")
		}
		time.Sleep(time.Millisecond)
	}
	opened := 0
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !c.Reused {
			opened++
		}
	}}
	const asked = 5
	for range asked {
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, r.url+ValidatePath, strings.NewReader(podWith("")))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		var raw []byte
		res, err := r.client.Do(req)
		if err == nil {
			raw, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
		}
		if time.Since(told) > drain && drain < time.Minute {
			return false
		}
		if err != nil || !strings.Contains(string(raw), `"allowed":true`) {
			t.Errorf("while it ends: %s, %v", raw, err)
		}
	}
	if opened < asked-1 { // the first goes over the connection that is there
		t.Errorf("%d questions opened %d connections", asked, opened)
	}
	for {
		if _, err := net.DialTimeout("tcp", r.Addr().String(), time.Second); err != nil {
			break
		}
		if time.Since(told) > drain+time.Minute {
			t.Fatal("it does not end")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if early := time.Since(told); early < drain {
		t.Errorf("it ended after %s", early)
	}
	return true
}

// publish makes a release with one service, injection and a policy of the user's, if
// there is one, what is judged by.
func (r *running) publish(t *testing.T, policy ...string) {
	t.Helper()
	if err := r.take(t.Context(), "0123456789abcdef", mark{}, []release.Step{{Release: shopOf(t, policy...)}}); err != nil {
		t.Fatal(err)
	}
}

func shopOf(t *testing.T, policy ...string) release.Release {
	t.Helper()
	var arts []release.Artifact
	for i, text := range policy {
		arts = append(arts, release.Artifact{Path: fmt.Sprintf("%sown%d.rego", release.PoliciesFolder, i), Bytes: []byte(text)})
	}
	for p, text := range map[string]string{
		"kubernetes/shop/service-web.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n",
		release.MeshPath:                   `{"services":[{"namespace":"shop","name":"web","versions":[{"account":"web"}]}]}`,
		release.InjectionPath:              `{"image":"i@sha256:00","server":"s:1"}`,
	} {
		arts = append(arts, release.Artifact{Path: p, Bytes: []byte(text)})
	}
	made, err := release.Seal(arts, release.Inputs{Environment: "e"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func question(kind, resource, object string) string {
	return fmt.Sprintf(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1","operation":"CREATE","namespace":"shop","name":"web",
		"kind":{"group":"","version":"v1","kind":%q},"resource":{"group":"","version":"v1","resource":%q},"object":%s}}`, kind, resource, object)
}

func podWith(spec string) string {
	return question("Pod", "pods", `{"metadata":{"name":"web"},"spec":{"serviceAccountName":"web","containers":[{"name":"app"}]`+spec+`}}`)
}

// ask sends a question and reads the answer.
func (r *running) ask(t *testing.T, path, body string) (*admission.AdmissionResponse, int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out admission.AdmissionReview
	if res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(raw, &out); err != nil || out.Response == nil || out.Response.UID != "u-1" {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	return out.Response, res.StatusCode, string(raw)
}

func TestAnswers(t *testing.T) {
	r := start(t)
	if a, _, _ := r.ask(t, ValidatePath, podWith("")); a.Allowed || a.Result.Code != 503 || !strings.Contains(a.Result.Message, "MESH0707") {
		t.Errorf("without a release: %+v", a)
	}
	if err := r.Ready(); err == nil {
		t.Error("it is ready without a release")
	}
	r.publish(t)
	if err := r.Ready(); err != nil {
		t.Errorf("it is not ready: %v", err)
	}
	bad := []release.Step{{Release: shopOf(t, "package meshc.object.own\n\nfindings contains x if true\n")}}
	if err := r.take(t.Context(), "fedcba9876543210", mark{}, bad); err == nil {
		t.Error("a policy that does not compile is taken")
	}
	if s := r.Status(); s.Commit != "0123456789abcdef" || len(s.Problems) == 0 {
		t.Errorf("the status after a policy that does not compile: %+v", s)
	}
	r.publish(t)
	if s := r.Status(); len(s.Problems) > 0 {
		t.Errorf("the status after it is mended: %v", s.Problems)
	}
	for name, c := range map[string]struct{ path, body, want string }{
		"a pod":                    {ValidatePath, podWith(""), ""},
		"a policy over pods":       {ValidatePath, podWith(`,"hostNetwork":true`), "MESH0401 [pod-host-network]"},
		"an object that differs":   {ValidatePath, question("Service", "services", `{"metadata":{"name":"web","namespace":"shop"},"spec":{"ports":[{"port":81}]}}`), "MESH0701 Service/shop/web"},
		"a pod that asks":          {MutatePath, podWith(""), ""},
		"a pod that cannot":        {MutatePath, podWith(`,"hostNetwork":true`), "MESH0704"},
		"a pod of Windows":         {MutatePath, podWith(`,"os":{"name":"windows"}`), "MESH0704"},
		"something that never has": {MutatePath, question("Service", "services", `{}`), ""},
	} {
		a, _, _ := r.ask(t, c.path, c.body)
		if a.Allowed != (c.want == "") || c.want != "" && (!strings.HasPrefix(a.Result.Message, c.want) || a.Result.Code != 403 || !strings.Contains(a.Result.Message, "fix: ")) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	a, _, _ := r.ask(t, MutatePath, podWith(""))
	var patch []map[string]any
	if err := json.Unmarshal(a.Patch, &patch); err != nil || *a.PatchType != admission.PatchTypeJSONPatch || len(patch) != 2 {
		t.Errorf("the patch: %s, %v", a.Patch, err)
	}
}

// What is no question of an API server's is turned away, and costs nothing.
func TestOddRequests(t *testing.T) {
	r := start(t)
	r.publish(t)
	post := func(path, kind, encoding string, body io.Reader) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		if encoding != "" {
			req.Header.Set("Content-Encoding", encoding)
		}
		res, err := r.client.Do(req)
		if err != nil {
			return 0 // cut off
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	const jsonKind = "application/json"
	for name, c := range map[string]struct{ got, want int }{
		"another path":      {post("/", jsonKind, "", strings.NewReader("{}")), 404},
		"a page of metrics": {post("/metrics", jsonKind, "", strings.NewReader("{}")), 404},
		"another kind":      {post(ValidatePath, "text/plain", "", strings.NewReader("{}")), 415},
		"packed":            {post(ValidatePath, jsonKind, "gzip", strings.NewReader("{}")), 415},
		"malformed":         {post(ValidatePath, jsonKind, "", strings.NewReader("{")), 400},
		"without a length":  {post(ValidatePath, jsonKind, "", io.MultiReader(strings.NewReader("{}"))), 413},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", name, c.got, c.want)
		}
	}
	if got := post(ValidatePath, jsonKind, "", bytes.NewReader(make([]byte, 32<<20))); got != 413 && got != 0 {
		t.Errorf("32 MiB: %d", got)
	}
	if a, _, _ := r.ask(t, ValidatePath, podWith("")); !a.Allowed {
		t.Errorf("afterwards: %+v", a)
	}
}

// Whoever says nothing, or says it slowly, is cut off, and others are answered.
func TestSlowSendersAreCutOff(t *testing.T) {
	r := start(t)
	r.publish(t)
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Go(func() {
			c, err := tls.Dial("tcp", r.Addr().String(), r.client.Transport.(*http.Transport).TLSClientConfig.Clone())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if i%2 == 0 {
				_, _ = io.WriteString(c, "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n{")
			}
			if err := c.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil {
				var late net.Error
				if errors.As(err, &late) && late.Timeout() {
					t.Errorf("connection %d is still open", i)
				}
			}
		})
	}
	for range 20 {
		if a, _, _ := r.ask(t, ValidatePath, podWith("")); !a.Allowed {
			t.Errorf("meanwhile: %+v", a)
		}
	}
	wait.Wait()
}

// A policy that burns its time denies, in time, and is no other's misfortune.
func TestAPolicyThatTakesTooLongDeniesAndNoOtherWaits(t *testing.T) {
	r := start(t)
	r.publish(t, `package meshc.object.slow

import rego.v1

# METADATA
# title: slow
# custom:
#   id: slow
#   severity: deny
findings contains {"id": "slow", "path": "x", "severity": "deny", "msg": "never"} if {
	input.object.metadata.labels.slow
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a * b == -1
}
`)
	slow := question("Pod", "pods", `{"metadata":{"labels":{"slow":"yes"}},"spec":{"containers":[]}}`)
	var named atomic.Int32
	stop := r.flood(2*maxJudged, func() { // more than there is room for
		a, _, _ := r.ask(t, ValidatePath, slow)
		if !a.Allowed && strings.Contains(a.Result.Message, `MESH0407 policy "meshc.object.slow"`) {
			named.Add(1)
		} else if a.Allowed || a.Result.Code != http.StatusTooManyRequests { // beyond the namespace's share there is no time left
			t.Errorf("the slow one: %+v", a.Result)
		}
	})
	elsewhere := strings.Replace(podWith(""), `"namespace":"shop"`, `"namespace":"elsewhere"`, 1)
	r.answered(t, "meanwhile, in another namespace", 10, func() bool {
		// Those who are slow, and those who ask here, leave room to others.
		const left = maxJudged - 2*maxShare
		if !r.judging.TryAcquire(left) {
			t.Error("there is no room for a third namespace")
		} else {
			r.judging.Release(left)
		}
		return r.neighbour(t, MutatePath, elsewhere) && r.neighbour(t, ValidatePath, elsewhere)
	})
	r.answered(t, "the slow ones are told which policy it is", 1, func() bool { return named.Load() >= maxShare })
	stop()
	// Whoever shares the slow one's namespace may have to ask again, and is never denied.
	r.answered(t, "afterwards, in the same namespace", 10, func() bool {
		a, _, _ := r.ask(t, MutatePath, podWith(""))
		if !a.Allowed && a.Result.Code != http.StatusTooManyRequests {
			t.Errorf("in the same namespace: %+v", a.Result)
		}
		return a.Allowed
	})
}

// flood has n askers ask again and again, until it is stopped.
func (r *running) flood(n int, ask func()) (stop func()) {
	var ended atomic.Bool
	var wait sync.WaitGroup
	for range n {
		wait.Go(func() {
			for !ended.Load() {
				ask()
			}
		})
	}
	return func() { ended.Store(true); wait.Wait() }
}

// neighbour asks about an object of a namespace that has done nothing, and reports whether
// it is let in. Where the machine is busy with other things its time may be over, which says
// so; that others have the room, or that something was found, is a wrong answer.
func (r *running) neighbour(t *testing.T, path, body string) bool {
	t.Helper()
	a, _, _ := r.ask(t, path, body)
	if !a.Allowed && !strings.Contains(a.Result.Message, "was not done when") &&
		(a.Result.Code != http.StatusTooManyRequests || strings.Contains(a.Result.Message, "no room")) {
		t.Errorf("a neighbour: %+v", a.Result)
	}
	return a.Allowed
}

// answered waits until something is so n times.
func (r *running) answered(t *testing.T, what string, n int, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); n > 0; {
		if ok() {
			n--
			continue
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %d times more to be so", what, n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A release whose policies do not compile changes nothing, and without any policy over
// objects there is nothing to judge by.
func TestAReleaseWithBadPoliciesIsNotTaken(t *testing.T) {
	r := start(t)
	r.publish(t, `package meshc.object.mine

import rego.v1

# METADATA
# title: mine
# custom:
#   id: mine
#   severity: deny
findings contains {"id": "mine", "path": "x", "severity": "deny", "msg": "mine"} if input.kind == "Pod"
`)
	err := r.take(t.Context(), "fedcba9876543210", mark{}, []release.Step{{Release: shopOf(t, "package meshc.object.mine\n\n# METADATA\n# custom: {id: mine, severity: deny}\nfindings := http.send({})\n")}})
	if err == nil || !strings.Contains(err.Error(), "http.send") {
		t.Errorf("%v", err)
	}
	if a, _, _ := r.ask(t, ValidatePath, podWith("")); a.Allowed || !strings.Contains(a.Result.Message, "[mine]") {
		t.Errorf("the policies before do not hold: %+v", a)
	}
	r.c.Baseline = fstest.MapFS{"one.rego": {Data: []byte("package meshc.mesh.one\n\nimport rego.v1\n\nfindings contains {\"id\": \"a\", \"path\": \"b\", \"severity\": \"deny\", \"msg\": \"c\"} if input.environment == \"never\"\n")}}
	if err := r.take(t.Context(), "fedcba9876543210", mark{}, []release.Step{{Release: shopOf(t)}}); err == nil || !strings.Contains(err.Error(), "no policy over objects") {
		t.Errorf("%v", err)
	}
}

// Names in a cluster are anybody's: an answer carries them so that they cannot act.
func TestNamesInAnswersCannotAct(t *testing.T) {
	r := start(t)
	r.publish(t)
	body := strings.Replace(podWith(`,"hostNetwork":true`), `"name":"web","kind"`, `"name":"x","kind"`, 1)
	body = strings.ReplaceAll(body, `"name":"web",`, `"name":"\u001b[2J\n::error::\u202e`+strings.Repeat("long", 2000)+`",`)
	a, _, _ := r.ask(t, ValidatePath, body)
	if a.Allowed || len(a.Result.Message) > maxReason || strings.ContainsAny(a.Result.Message, "\n\x1b\u202e") {
		t.Errorf("%q", a.Result.Message)
	}
}
