package ca

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/diag"
)

// PodAudience is the audience that a pod's token must have been made for.
const PodAudience = "meshc.dev"

// Pod is a pod that proved to be one.
type Pod struct {
	Identity Identity
	UID      string
	// Credential names the token among all of its cluster; Ends is its end.
	Credential string
	Ends       time.Time
}

// Attestor says which pod a service account's token was made for, if it and the pod are
// good now. Problems: CodePodToken is a verdict, CodeNotAttested is that there is none.
type Attestor interface {
	Attest(ctx context.Context, token string) (Pod, error)
}

// TakePods has the service take tokens of pods as well. Call it before Register.
func (s *Service) TakePods(by Attestor) { s.pods = by }

// maxPodToken bounds a token in bytes; one of Kubernetes 1.36 has about 1,200.
const maxPodToken = 8 << 10

// How many tokens are looked at at one time, from all clients and from one network, and
// how long one takes at most: whoever sends tokens that are slow to refuse waits for
// himself.
const (
	attestAll   = 32
	attestOne   = 4
	attestLimit = 5 * time.Second
)

// PodClaims are what a service account's token says of itself. It proves nothing.
type PodClaims struct {
	Identity             Identity
	Namespace, Pod, UID  string
	Audiences            []string
	Begins, Issued, Ends time.Time
}

// ReadPodToken reads a token without proof. Problem: CodePodToken.
func ReadPodToken(token string) (PodClaims, error) {
	bad := func(format string, args ...any) (PodClaims, error) {
		return PodClaims{}, problem(diag.New(diag.CodePodToken, diag.Pos{}, "this is not the token of a pod: "+format, args...).
			WithFix("mount a projected token: serviceAccountToken: {audience: %q, path: token, expirationSeconds: 3600}", PodAudience))
	}
	parts := strings.Split(token, ".")
	if len(token) > maxPodToken || len(parts) != 3 {
		return bad("it is no JWT of up to %d bytes", maxPodToken)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return bad("its claims cannot be read")
	}
	var c struct {
		Sub        string   `json:"sub"`
		Aud        audience `json:"aud"`
		Exp        int64    `json:"exp"`
		Iat        int64    `json:"iat"`
		Nbf        int64    `json:"nbf"`
		Kubernetes struct {
			Namespace string `json:"namespace"`
			Pod       struct {
				Name string `json:"name"`
				UID  string `json:"uid"`
			} `json:"pod"`
		} `json:"kubernetes.io"`
	}
	if json.Unmarshal(raw, &c) != nil {
		return bad("its claims cannot be read")
	}
	rest, ok := strings.CutPrefix(c.Sub, "system:serviceaccount:")
	ns, account, both := strings.Cut(rest, ":")
	if !ok || !both {
		return bad("its subject is no service account")
	}
	who, err := ParseIdentity(ns + "/" + account)
	if err != nil {
		return PodClaims{}, err
	}
	if c.Kubernetes.Pod.Name == "" || c.Kubernetes.Pod.UID == "" || c.Kubernetes.Namespace != ns {
		return bad("it is not bound to a pod")
	}
	return PodClaims{
		Identity: who, Namespace: ns, Pod: c.Kubernetes.Pod.Name, UID: c.Kubernetes.Pod.UID, Audiences: c.Aud,
		Begins: time.Unix(c.Nbf, 0), Issued: time.Unix(c.Iat, 0), Ends: time.Unix(c.Exp, 0),
	}, nil
}

// audience is one text or several (RFC 7519, 4.1.3).
type audience []string

// UnmarshalJSON reads both forms.
func (a *audience) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		*a = make([]string, 1)
		return json.Unmarshal(raw, &(*a)[0])
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// isPodToken tells a pod's token from a join token.
func isPodToken(token string) bool {
	return !strings.HasPrefix(token, tokenPrefix) && strings.Count(token, ".") == 2
}

// joinPod signs before it spends the token, as tryJoin does.
func (s *Service) joinPod(ctx context.Context, token, csr string) (spiffeid.ID, Issued, error) {
	pod, id, err := s.attest(ctx, token)
	if err != nil {
		return id, Issued{}, err
	}
	if err := s.tokens.checkPod(ctx, pod.Credential); err != nil {
		return id, Issued{}, err
	}
	out, err := s.sign(id, csr, podLineage(pod.UID))
	if err != nil {
		return id, Issued{}, err
	}
	return id, out, s.tokens.usePod(ctx, pod.Credential, id, pod.Ends)
}

// checkRenewal demands of a pod that it is still there: its token goes with each
// renewal, and must be the same pod's. It is not spent: the certificate proves who asks.
func (s *Service) checkRenewal(ctx context.Context, id spiffeid.ID, line lineage, token string) error {
	if !line.isPod() {
		return nil
	}
	if token == "" {
		return problem(diag.New(diag.CodePodToken, diag.Pos{}, "the certificate of %q is a pod's, and there is no token of that pod with the request", id).
			WithFix("start meshc-agent with --token-file"))
	}
	pod, has, err := s.attest(ctx, token)
	if err != nil {
		return err
	}
	if has != id || podLineage(pod.UID) != line {
		return problem(diag.New(diag.CodeIdentityMismatch, diag.Pos{}, "the certificate is of a pod of %q, the token of another one of %q", id, has).
			WithFix("give each pod a --state and a --token-file of its own"))
	}
	return nil
}

// attest asks which pod the token was made for.
func (s *Service) attest(ctx context.Context, token string) (Pod, spiffeid.ID, error) {
	if s.pods == nil {
		return Pod{}, spiffeid.ID{}, problem(diag.New(diag.CodeNotAttested, diag.Pos{}, "this server knows no cluster whose pods may join").
			WithFix("start it with --in-cluster or --kubeconfig; or use a token of `meshc token create`"))
	}
	leave, ok := s.looking.enter(remote(ctx))
	if !ok {
		return Pod{}, spiffeid.ID{}, busy()
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, attestLimit)
	defer cancel()
	pod, err := s.pods.Attest(ctx, token)
	if err != nil {
		return Pod{}, spiffeid.ID{}, err
	}
	id, err := pod.Identity.SPIFFE(s.a.td)
	return pod, id, err
}

// room bounds what is done at one time, for all and for each network.
type room struct {
	mu  sync.Mutex
	all int
	one map[netip.Prefix]int
}

// enter takes a place for the client at that address; leave gives it back.
func (r *room) enter(addr string) (leave func(), ok bool) {
	client := clientNet(addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all >= attestAll || r.one[client] >= attestOne {
		return nil, false
	}
	r.all++
	r.one[client]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all--
		if r.one[client]--; r.one[client] == 0 {
			delete(r.one, client)
		}
	}, true
}
