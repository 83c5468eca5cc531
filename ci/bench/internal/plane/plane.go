// Package plane is a whole control plane on one machine: meshc's server with its
// certificate authority, and agents in processes of their own, as in use.
//
// In: intent. Out: what its proxies have confirmed. Only the approval is not from
// Git (package vouch). Everything listens on the loopback or on Unix sockets in
// one folder, and ends with Close.
package plane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	"meshc.dev/meshc/ci/bench/internal/binaries"
	"meshc.dev/meshc/ci/bench/internal/vouch"
	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/kubeapi"
	xdsserver "meshc.dev/meshc/xds-server"
)

// trustDomain is that of all identities.
const trustDomain = "mesh.local"

// Plane is a running server.
type Plane struct {
	dir       string
	authority *ca.Authority
	tokens    *ca.Tokens
	server    *xdsserver.Server
	client    *xdsserver.Client
	store     *vouch.Store
	options   compiler.Options
	end       context.CancelFunc
	done      chan error
	agents    []*child.Child
}

// Open starts a server in a new folder with a short path.
func Open(date time.Time) (*Plane, error) { return OpenIn(date, nil) }

// OpenIn is Open for a server that discovers services in a cluster.
func OpenIn(date time.Time, cluster *kubeapi.Cluster) (*Plane, error) {
	dir, err := os.MkdirTemp("/tmp", "mb") // sockets have short paths
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	p := &Plane{dir: dir, done: make(chan error, 1), store: vouch.New(filepath.Join(dir, "approved")),
		options: compiler.Options{At: date, Cache: compiler.MemoryCache(100, nil), Memo: compiler.NewMemo()}}
	ctx, cancel := context.WithCancel(context.Background())
	p.end = cancel
	if err := p.open(ctx, cluster); err != nil {
		cancel()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.client = xdsserver.Dial(xdsserver.SocketPath(p.state()))
	go func() { p.done <- p.server.Run(ctx) }()
	return p, nil
}

func (p *Plane) state() string { return filepath.Join(p.dir, "state") }

func (p *Plane) open(ctx context.Context, cluster *kubeapi.Cluster) error {
	if err := os.MkdirAll(p.state(), 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	var err error
	if p.authority, err = ca.Open(ctx, p.state(), ca.Options{TrustDomain: trustDomain, TTL: time.Hour, Clock: time.Now}); err != nil {
		return err
	}
	if p.tokens, err = ca.OpenTokens(p.state(), time.Now); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	joining := ca.NewService(p.authority, p.tokens, nil, log)
	p.server, err = xdsserver.New(xdsserver.Config{
		Listen: "127.0.0.1:0", TrustDomain: trustDomain, StateDir: p.state(), Log: log, Now: time.Now,
		TLS:      func() (*tls.Config, error) { return p.authority.TLSConfig(ca.Requested), nil },
		Register: func(r grpc.ServiceRegistrar) { joining.Register(r) },

		Kubernetes: cluster, Discovered: compiler.Discovered,
	})
	return err
}

// Publish compiles and publishes intent, and gives the name of its commit.
func (p *Plane) Publish(ctx context.Context, intent fs.FS) (string, error) {
	r, err := p.Compile(intent)
	if err != nil {
		return "", err
	}
	a, err := p.Approve(r)
	if err != nil {
		return "", err
	}
	return a.Commit(), p.PublishApproved(ctx, a)
}

// Compile compiles intent.
func (p *Plane) Compile(intent fs.FS) (release.Release, error) {
	prog, ds := compiler.Load(intent, p.options)
	if err := ds.Err(); err != nil {
		return release.Release{}, fmt.Errorf("compiling: %w", err)
	}
	r, ds := prog.Release()
	return r, ds.Err()
}

// Approve makes a release approved.
func (p *Plane) Approve(r release.Release) (approval.Approved, error) { return p.store.Approve(r) }

// PublishApproved is Publish for what is compiled and approved.
func (p *Plane) PublishApproved(ctx context.Context, a approval.Approved) error {
	return p.server.Publish(ctx, a)
}

// Arrived waits until every connected proxy, at least one, runs a commit.
func (p *Plane) Arrived(ctx context.Context, commit string) error {
	pr, err := p.client.Wait(ctx, commit, 0, nil)
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", commit, err)
	}
	if pr.Outcome != xdsserver.Done || pr.Connected == 0 {
		return fmt.Errorf("commit %s: %s, %d proxies connected", commit, pr.Outcome, pr.Connected)
	}
	return nil
}

// Address is the server's, for proxies.
func (p *Plane) Address() string { return p.server.Addr().String() }

// token makes a one-time token for "namespace/account".
func (p *Plane) token(identity string) (spiffeid.ID, string, error) {
	id, err := ca.ParseIdentity(identity)
	if err != nil {
		return spiffeid.ID{}, "", err
	}
	full, err := id.SPIFFE(p.authority.TrustDomain())
	if err != nil {
		return spiffeid.ID{}, "", err
	}
	token, err := p.tokens.Create(context.Background(), full, 5*time.Minute)
	return full, token, err
}

// Agent is a running meshc-agent, with Envoy if it was given one.
type Agent struct {
	*child.Child
	dir string
}

// ADS is the socket on which the agent carries configuration.
func (a Agent) ADS() string { return filepath.Join(a.dir, "ads.sock") }

// Log is what agent and Envoy have written.
func (a Agent) Log() string {
	b, _ := os.ReadFile(filepath.Join(a.dir, "log")) // without a log there is nothing to tell
	return string(b)
}

// Agent builds meshc-agent and starts it for an identity. envoy is the path of the
// binary that it shall start, "" for none.
func (p *Plane) Agent(ctx context.Context, identity, envoy string) (Agent, error) {
	binary := filepath.Join(p.dir, "meshc-agent")
	if err := binaries.Build(ctx, p.dir, "meshc-agent"); err != nil {
		return Agent{}, err
	}
	_, token, err := p.token(identity)
	if err != nil {
		return Agent{}, err
	}
	a := Agent{dir: filepath.Join(p.dir, fmt.Sprintf("a%d", len(p.agents)))}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return Agent{}, fmt.Errorf("making the agent's folder: %w", err)
	}
	file := filepath.Join(a.dir, "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		return Agent{}, fmt.Errorf("writing the token: %w", err)
	}
	args := []string{"--server", p.Address(), "--join-token-file", file, "--server-fingerprint", p.authority.Fingerprints()[0],
		"--state", a.dir, "--drain", "1s", "--log-level", "warn"}
	if envoy == "" {
		args = append(args, "--no-envoy")
	} else {
		args = append(args, "--envoy-path", envoy, "--", "--concurrency", "1", "--log-level", "warning")
	}
	if a.Child, err = child.Start(child.Spec{Path: binary, Args: args, Log: filepath.Join(a.dir, "log")}); err != nil {
		return Agent{}, err
	}
	p.agents = append(p.agents, a.Child)
	return a, nil
}

// Join gets a certificate for an identity, as an agent does, for a client without one.
func (p *Plane) Join(ctx context.Context, identity string) (*tls.Config, error) {
	id, token, err := p.token(identity)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}, key)
	if err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	trust := ca.Trust{TrustDomain: p.authority.TrustDomain(), Pins: p.authority.Fingerprints(), Clock: time.Now}
	c, err := ca.Dial([]string{p.Address()}, trust)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	got, err := c.Join(ctx, token, csr)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: got.Chain[0]}
	for _, x := range got.Chain {
		cert.Certificate = append(cert.Certificate, x.Raw)
	}
	trust.Roots, trust.Certificate = got.Bundle, cert
	return trust.TLSConfig(nil), nil
}

// Close ends everything that was started.
func (p *Plane) Close() error {
	for _, a := range p.agents {
		a.Stop(10 * time.Second)
	}
	p.client.Close()
	p.end()
	return errors.Join(<-p.done, os.RemoveAll(p.dir))
}
