package attest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/attest"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubesecret"
)

// sharedRole is the Role of servers that share an authority, as the documentation shows it.
func sharedRole(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/kubernetes-serving.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n"
	_, rest, ok := strings.Cut(string(raw), "```yaml\n"+begin)
	if !ok {
		t.Fatal("the documentation has no Role")
	}
	text, _, _ := strings.Cut(rest, "```")
	return begin + text
}

// sharing is a server of several that share an authority, with what it is reached by.
type sharing struct {
	authority *ca.Authority
	tokens    *ca.Tokens
	addr      string
}

func (s *site) sharing() *sharing {
	s.t.Helper()
	cluster, name := kubeapi.New(s.config), kubesecret.Name{Namespace: "meshc-system", Name: "meshc-authority"}
	store := func(key string) *kubesecret.Store {
		st, err := kubesecret.New(cluster, name, key)
		if err != nil {
			s.t.Fatal(err)
		}
		return st
	}
	a, err := ca.Open(s.t.Context(), s.t.TempDir(), ca.Options{TrustDomain: "mesh.local", Clock: time.Now, Roots: store(kubesecret.RootsKey)})
	if err != nil {
		s.t.Fatal(err)
	}
	spent, err := attest.NewSpent(cluster, name.Namespace, time.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	pods, err := attest.New(cluster, time.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	out := &sharing{authority: a, tokens: ca.SharedTokens(store(kubesecret.TokensKey), spent, time.Now)}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(a.TLSConfig(ca.Requested))))
	joining := ca.NewService(a, out.tokens, nil, slog.New(slog.NewJSONHandler(s.log, nil)))
	joining.TakePods(pods)
	joining.Register(g)
	go func() { _ = g.Serve(lis) }()
	s.t.Cleanup(g.Stop)
	out.addr = lis.Addr().String()
	return out
}

// joinAt asks a server for a certificate.
func joinAt(ctx context.Context, at, trusts *sharing, id spiffeid.ID, token string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}, key)
	if err != nil {
		return err
	}
	c, err := ca.Dial([]string{at.addr}, ca.Trust{TrustDomain: trusts.authority.TrustDomain(), Roots: trusts.authority.Bundle().X509Authorities(), Clock: time.Now})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Join(ctx, token, csr)
	return err
}

// A token is used once, whichever server of several is asked: one of a person's, and one of
// a pod's.
func TestATokenIsUsedOnceOfSeveralServers(t *testing.T) {
	s := newSite(t, time.Hour)
	s.apply(`{apiVersion: v1, kind: Namespace, metadata: {name: meshc-system}}`, sharedRole(t), fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: meshc-serve, namespace: meshc-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: meshc-serve}
subjects: [{kind: User, name: %s, apiGroup: rbac.authorization.k8s.io}]
`, server), `{apiVersion: v1, kind: Secret, metadata: {name: meshc-authority, namespace: meshc-system}}`)
	s.pod("web", "web")
	servers := []*sharing{s.sharing(), s.sharing()}
	id := spiffeid.RequireFromString("spiffe://mesh.local/ns/shop/sa/web")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	for round := range 4 {
		text, err := servers[round%2].tokens.Create(ctx, id, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 {
			if text, err = s.Token(ctx, "shop", "web", ca.PodAudience); err != nil {
				t.Fatal(err)
			}
		}
		const callers = 6
		errs := make([]error, callers)
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() { errs[i] = joinAt(ctx, servers[i%2], servers[(i+1)%2], id, text) })
		}
		group.Wait()
		got := 0
		for _, err := range errs {
			var l *diag.ListError
			switch {
			case err == nil:
				got++
			case !errors.As(err, &l) || l.List[0].Code != diag.CodeTokenUsed:
				t.Errorf("round %d: %v", round, err)
			}
		}
		if got != 1 {
			t.Errorf("round %d: %d callers got a certificate", round, got)
		}
	}
	if err := joinAt(ctx, servers[0], servers[1], id, "meshc1.x.y"); err == nil {
		t.Error("a token that nobody made is taken")
	}

	leases := func() int {
		t.Helper()
		l, err := s.Client.CoordinationV1().Leases("meshc-system").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return len(l.Items)
	}
	if n := leases(); n != 2 {
		t.Errorf("%d Leases for two tokens", n)
	}
	// Hours later what has ended goes, and what has not stays.
	spent, err := attest.NewSpent(kubeapi.New(s.config), "meshc-system", func() time.Time { return time.Now().Add(4 * time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	if err := spent.Use(ctx, "another", id, time.Now().Add(5*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); leases() != 1; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d Leases, want the one that has not ended", leases())
		}
	}
	if got := s.log.String(); strings.Contains(got, "PRIVATE") || strings.Contains(got, "meshc1.") {
		t.Error("a secret is logged")
	}
	// A server that may not make Leases joins no pod, and says why.
	s.apply(strings.Replace(sharedRole(t), "verbs: [create, list, delete]", "verbs: [list]", 1))
	token, err := s.Token(ctx, "shop", "web", ca.PodAudience)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) { // the API server takes a moment
		err := joinAt(ctx, servers[0], servers[1], id, token)
		if err != nil && ca.Temporary(err) && strings.Contains(err.Error(), "leases.coordination.k8s.io") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("without the right: %v", err)
		}
		if err == nil {
			if token, err = s.Token(ctx, "shop", "web", ca.PodAudience); err != nil {
				t.Fatal(err)
			}
		}
	}
}
