package attest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/agent"
	"meshc.dev/meshc/internal/attest"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubetest"
)

// site is a cluster, and an authority that asks it with exactly the rights that the
// documentation lists.
type site struct {
	*kubetest.Cluster
	t      *testing.T
	config *rest.Config // as the server
	a      *ca.Authority
	tokens *ca.Tokens
	log    *syncBuffer
	addr   string
}

const server = "meshc-serve"

func newSite(t *testing.T, ttl time.Duration) *site {
	t.Helper()
	s := &site{Cluster: kubetest.ForTest(t, kubetest.Options{Users: []kubetest.User{{Name: server}, {Name: "nobody"}}}), t: t, log: &syncBuffer{}}
	s.apply(rights(t), `
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: meshc-serve},
 roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: meshc-serve}, subjects: [{kind: User, name: meshc-serve, apiGroup: rbac.authorization.k8s.io}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: cart, namespace: shop}}
`)
	var err error
	if s.config, _, err = s.As(server); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if s.a, err = ca.Open(t.Context(), dir, ca.Options{TrustDomain: "mesh.local", TTL: ttl, Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	if s.tokens, err = ca.OpenTokens(dir, time.Now); err != nil {
		t.Fatal(err)
	}
	if err := kubeapi.New(s.config).Supported(t.Context()); err != nil { // nobody needs a right for that
		t.Fatal(err)
	}
	s.addr = s.serve(s.config)
	return s
}

// rights is the role that the documentation shows.
func rights(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "kubernetes-serving.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "```yaml\n")
	role, _, ok := strings.Cut(rest, "```")
	if !ok || !strings.Contains(role, "kind: ClusterRole") {
		t.Fatal("the documentation shows no role")
	}
	return role
}

// serve runs the identity service against an API server.
func (s *site) serve(config *rest.Config) string {
	s.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	pods, err := attest.New(kubeapi.New(config), time.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(s.a.TLSConfig(ca.Requested))))
	joining := ca.NewService(s.a, s.tokens, nil, slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	joining.TakePods(pods)
	joining.Register(g)
	go func() { _ = g.Serve(lis) }()
	s.t.Cleanup(g.Stop)
	return lis.Addr().String()
}

func (s *site) apply(texts ...string) {
	s.t.Helper()
	if err := s.Apply(s.t.Context(), texts...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) pod(name, account string) {
	s.t.Helper()
	s.apply(fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: shop},
 spec: {nodeName: node, serviceAccountName: %s, terminationGracePeriodSeconds: 0, containers: [{name: app, image: app}]}}`, name, account))
}

// remove deletes a pod at once, as a kubelet would have it in the end.
func (s *site) remove(name string) {
	s.t.Helper()
	zero := int64(0)
	if err := s.Client.CoreV1().Pods("shop").Delete(s.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) token(pod string) string {
	s.t.Helper()
	text, err := s.Token(s.t.Context(), "shop", pod, ca.PodAudience)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// request makes a token as it is asked for.
func (s *site) request(account string, spec authv1.TokenRequestSpec) string {
	s.t.Helper()
	r, err := s.Client.CoreV1().ServiceAccounts("shop").CreateToken(s.t.Context(), account, &authv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Status.Token
}

func (s *site) bound(pod string) *authv1.BoundObjectReference {
	s.t.Helper()
	p, err := s.Client.CoreV1().Pods("shop").Get(s.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod, UID: p.UID}
}

func (s *site) trust() ca.Trust {
	return ca.Trust{TrustDomain: s.a.TrustDomain(), Pins: s.a.Fingerprints(), Clock: time.Now}
}

func (s *site) dial(addr string, tr ca.Trust) *ca.Client {
	s.t.Helper()
	c, err := ca.Dial([]string{addr}, tr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *site) join(addr, token, who string) (*ecdsa.PrivateKey, ca.Issued, error) {
	s.t.Helper()
	key, csr := request(s.t, who)
	got, err := s.dial(addr, s.trust()).Join(s.t.Context(), token, csr)
	return key, got, err
}

func request(t *testing.T, who string) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse("spiffe://mesh.local/ns/shop/sa/" + who)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{u}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all so far.
func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func codeOf(err error) diag.Code {
	var l *diag.ListError
	if errors.As(err, &l) && len(l.List) > 0 {
		return l.List[0].Code
	}
	return ""
}

func ptr[T any](v T) *T { return &v }

// A pod is who its token says if the cluster agrees now, and nothing else is one.
func TestTokensOfAllKinds(t *testing.T) {
	s := newSite(t, time.Hour)
	for _, p := range []string{"web", "gone", "again", "ended"} {
		s.pod(p, "web")
	}
	at := func(d time.Duration) *attest.Attestor {
		a, err := attest.New(kubeapi.New(s.config), func() time.Time { return time.Now().Add(d) })
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	good := s.token("web")
	pod, err := at(0).Attest(t.Context(), good)
	if err != nil || pod.Identity.String() != "shop/web" || pod.UID != string(s.bound("web").UID) || pod.Credential == "" || time.Until(pod.Ends) < 30*time.Minute {
		t.Fatalf("%+v, %v", pod, err)
	}
	other, err := at(0).Attest(t.Context(), s.token("web"))
	if err != nil || other.Credential == pod.Credential || other.UID != pod.UID {
		t.Fatalf("two tokens: %+v, %v", other, err)
	}

	gone, again, ended := s.token("gone"), s.token("again"), s.token("ended")
	for _, token := range []string{gone, again} { // the API server takes what it took for some seconds
		if _, err := at(0).Attest(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	s.remove("gone")
	s.remove("again")
	s.pod("again", "web")
	for token, want := range map[string]string{gone: `its pod "gone" in namespace "shop" is gone`, again: "is another one than it was made for"} {
		const late = "the Kubernetes API does not accept it" // if this machine is slow
		if _, err := at(0).Attest(t.Context(), token); codeOf(err) != diag.CodePodToken || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), late) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := s.Client.CoreV1().Pods("shop").Patch(t.Context(), "ended", "application/strategic-merge-patch+json", []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(claims, []byte("serviceaccount:shop:web"), []byte("serviceaccount:shop:cart"))) + "." + parts[2]
	hour, days := ptr(int64(3600)), ptr(int64(3*24*3600))
	for name, c := range map[string]struct {
		token string
		later time.Duration
		want  string
	}{
		"another audience":  {s.request("web", authv1.TokenRequestSpec{Audiences: []string{"other"}, BoundObjectRef: s.bound("web"), ExpirationSeconds: hour}), 0, `it was made for the audience ["other"]`},
		"the API's own":     {s.request("web", authv1.TokenRequestSpec{BoundObjectRef: s.bound("web"), ExpirationSeconds: hour}), 0, "it was made for the audience"},
		"bound to nothing":  {s.request("web", authv1.TokenRequestSpec{Audiences: []string{ca.PodAudience}, ExpirationSeconds: hour}), 0, "not bound to a pod"},
		"good for days":     {s.request("web", authv1.TokenRequestSpec{Audiences: []string{ca.PodAudience}, BoundObjectRef: s.bound("web"), ExpirationSeconds: days}), 0, "good for 72h"},
		"just over":         {good, time.Hour + time.Second, "it ended at"},
		"of a pod that ran": {ended, 0, "has ended (Succeeded)"},
		"forged":            {forged, 0, "the Kubernetes API does not accept it"},
		"unsigned":          {parts[0] + "." + parts[1] + ".", 0, "the Kubernetes API does not accept it"},
		"no JWT":            {"a.b.c", 0, "its claims cannot be read"},
		"empty":             {"", 0, "it is no JWT"},
	} {
		_, err := at(c.later).Attest(t.Context(), c.token)
		if codeOf(err) != diag.CodePodToken || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && len(c.token) > 10 && strings.Contains(err.Error(), c.token[len(c.token)-10:]) {
			t.Errorf("%s: the token is in the error", name)
		}
	}
}

// What the API server does not say is no verdict, and says what to mend.
func TestNoVerdict(t *testing.T) {
	s := newSite(t, time.Hour)
	s.pod("web", "web")
	token := s.token("web")
	nobody, _, err := s.As("nobody")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config *rest.Config
		want   string
	}{
		"no rights":   {nobody, "MESH0616: the Kubernetes API does not let meshc create tokenreviews.authentication.k8s.io"},
		"nobody":      {&rest.Config{Host: s.config.Host, TLSClientConfig: s.config.TLSClientConfig, BearerToken: "nonsense"}, "MESH0616: the Kubernetes API does not know who meshc is"},
		"not there":   {&rest.Config{Host: "https://127.0.0.1:1", TLSClientConfig: s.config.TLSClientConfig, BearerToken: s.config.BearerToken}, "MESH0615"},
		"another one": {&rest.Config{Host: s.config.Host, BearerToken: s.config.BearerToken}, "MESH0615"}, // whose CA nobody knows
	} {
		_, _, err := s.join(s.serve(c.config), token, "web")
		if codeOf(err) != diag.CodeNotAttested || !strings.Contains(err.Error(), c.want) || !ca.Temporary(err) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, _, err := s.join(s.addr, token, "web"); err != nil {
		t.Errorf("the token was spent by no verdict: %v", err)
	}
}

// A token makes one certificate, renewals need pod and key, and a join token is as good
// as ever.
func TestPodsJoinAndRenew(t *testing.T) {
	s := newSite(t, time.Hour)
	s.pod("web", "web")
	s.pod("web-2", "web")
	first := s.token("web")
	if _, _, err := s.join(s.addr, first, "cart"); codeOf(err) != diag.CodeIdentityMismatch {
		t.Errorf("a request for another identity: %v", err)
	}
	key, got, err := s.join(s.addr, first, "web")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.join(s.addr, first, "web"); codeOf(err) != diag.CodeTokenUsed {
		t.Errorf("the token again: %v", err)
	}
	_, same, err := s.join(s.addr, s.token("web"), "web")
	if err != nil {
		t.Fatal(err)
	}
	_, replica, err := s.join(s.addr, s.token("web-2"), "web")
	if err != nil {
		t.Fatal(err)
	}
	line, _ := ca.LineageOf(got.Chain[0])
	if l, ok := ca.LineageOf(same.Chain[0]); !ok || l != line {
		t.Errorf("a pod that joins again is replica %q, and was %q", l, line)
	}
	if l, _ := ca.LineageOf(replica.Chain[0]); l == line {
		t.Error("two pods are one replica")
	}

	mine := ca.Trust{TrustDomain: s.a.TrustDomain(), Roots: got.Bundle, Clock: time.Now, Certificate: &tls.Certificate{Certificate: [][]byte{got.Chain[0].Raw}, PrivateKey: key, Leaf: got.Chain[0]}}
	c := s.dial(s.addr, mine)
	renew := func(token string) error {
		_, csr := request(t, "web")
		next, err := c.Renew(t.Context(), token, csr)
		if err == nil {
			if l, _ := ca.LineageOf(next.Chain[0]); l != line {
				t.Errorf("renewed, the pod is replica %q", l)
			}
		}
		return err
	}
	if err := errors.Join(renew(first), renew(first), renew(s.token("web"))); err != nil {
		t.Errorf("renewals: %v", err)
	}
	if err := renew(""); codeOf(err) != diag.CodePodToken {
		t.Errorf("without a token: %v", err)
	}
	if err := renew(s.token("web-2")); codeOf(err) != diag.CodeIdentityMismatch {
		t.Errorf("with another pod's token: %v", err)
	}
	token := s.token("web")
	s.remove("web")
	if err := renew(token); codeOf(err) != diag.CodePodToken {
		t.Errorf("after the pod's end: %v", err)
	}

	id, err := ca.Identity{Namespace: "shop", Account: "web"}.SPIFFE(s.a.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := s.tokens.Create(t.Context(), id, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.join(s.addr, plain, "web"); err != nil {
		t.Errorf("a join token: %v", err)
	}
	for _, secret := range []string{first, token, plain} {
		if strings.Contains(s.log.String(), secret[len(secret)-20:]) {
			t.Error("a token is in the log")
		}
	}
}

// Of many who use one token at the same time, one gets a certificate.
func TestOneTokenOneCertificate(t *testing.T) {
	s := newSite(t, time.Hour)
	s.pod("web", "web")
	token := s.token("web")
	results := make(chan error, 12)
	for range cap(results) {
		go func() {
			for {
				_, _, err := s.join(s.addr, token, "web")
				if codeOf(err) != diag.CodeTooManyRequests { // four at a time
					results <- err
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	won := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			won++
		case codeOf(err) != diag.CodeTokenUsed:
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d certificates", won)
	}
}

// Tokens that are slow to judge keep nobody waiting who has another one.
func TestASlowAPIServerHoldsNobodyElse(t *testing.T) {
	s := newSite(t, time.Hour)
	s.pod("web", "web")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, in its queue, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	addr := s.serve(&rest.Config{Host: "https://" + silent.Addr().String(), BearerToken: "x", TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	token, id := s.token("web"), ca.Identity{Namespace: "shop", Account: "web"}
	var waiting sync.WaitGroup
	told := make(chan diag.Code, 20)
	for range cap(told) {
		waiting.Go(func() {
			_, _, err := s.join(addr, token, "web")
			told <- codeOf(err)
		})
	}
	spiffe, err := id.SPIFFE(s.a.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 10 {
		plain, err := s.tokens.Create(t.Context(), spiffe, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		_, csr := request(t, "web")
		if _, err := s.dial(addr, s.trust()).Join(ctx, plain, csr); err != nil {
			t.Errorf("a join token beside them: %v", err)
		}
	}
	if len(told) == cap(told) {
		t.Error("nobody waited: the test shows nothing")
	}
	waiting.Wait()
	counts := map[diag.Code]int{}
	for range cap(told) {
		counts[<-told]++
	}
	if counts[diag.CodeNotAttested] == 0 || counts[diag.CodeTooManyRequests] == 0 || len(counts) != 2 {
		t.Errorf("they were told %v", counts)
	}
}

// An agent joins with the file, renews with what the file has then, and ends with its pod.
func TestAgentLivesAsLongAsItsPod(t *testing.T) {
	s := newSite(t, 3*time.Second)
	s.pod("web", "web")
	dir, err := os.MkdirTemp("", "ma") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file, bundle := filepath.Join(dir, "token"), filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(bundle, ca.EncodeCertificates(s.a.Bundle().X509Authorities()), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func() string {
		token := s.token("web")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		return token
	}
	secrets := []string{write()}
	log := &syncBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := agent.Run(ctx, agent.Config{
			Servers: []string{s.addr}, TokenFile: file, BundleFile: bundle, StateDir: filepath.Join(dir, "s"), NoEnvoy: true, Clock: time.Now,
		}, log, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		ended <- err
	}()
	wait := func(what string, n int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); strings.Count(log.String(), what) < n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no %q in\n%s", what, log)
			}
		}
	}
	wait(`"how":"renewed"`, 2)
	secrets = append(secrets, write())
	wait(`"how":"renewed"`, 4)
	s.remove("web")
	wait("MESH0634", 1)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, secret := range secrets {
		for _, l := range []*syncBuffer{log, s.log} {
			if strings.Contains(l.String(), secret[len(secret)-20:]) {
				t.Error("a token is in a log")
			}
		}
	}
}
