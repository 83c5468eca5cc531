package xdsserver

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// Limits bound what one client can cost; a zero field means its default.
type Limits = stream.Limits

// Bounds say when evidence counts for more than the proxy that gave it; a zero field
// means its default.
type Bounds = rollout.Bounds

// Config is what a Server needs.
type Config struct {
	// Listen is the address for proxies, "host:port"; port 0 takes a free one.
	Listen string
	// TLS gives the server's side of mutual TLS 1.3, asked once at the start; it
	// renews certificates through its own GetConfigForClient. It must verify
	// client certificates; a client without one gets no resource.
	TLS func() (*tls.Config, error)
	// Register adds services to the port, such as joining; may be nil.
	Register func(grpc.ServiceRegistrar)
	// HTTP is the address for /metrics, /healthz and /readyz; "" means none.
	HTTP string
	// TrustDomain is the one whose proxies are served.
	TrustDomain string
	// EndpointDir is the folder of endpoint files; "" means none.
	EndpointDir string
	// EndpointPoll is how often it is looked at beside what the system tells, default
	// 30 s. ResolveEvery is how often a DNS name is looked up, at least 1 s, default 10 s.
	EndpointPoll, ResolveEvery time.Duration
	// Kubernetes is the cluster in which services are discovered, nil for none; Discovered
	// names those of a release. Nil means that it has none.
	Kubernetes *kubeapi.Cluster
	Discovered func(release.Release) ([]release.Discovered, error)
	// StateDir holds the admin socket, and the evidence: what proxies confirmed and
	// refused.
	StateDir string
	// Limits are per client, ConnectionsPerSecond per address of a client
	// (default 200 after a burst of 2,000; negative means no limit).
	Limits               Limits
	ConnectionsPerSecond int
	// Denied says whose certificates count no longer, by SPIFFE ID: their streams end
	// within about a second, and no others are opened. After an error nobody opens one.
	// Nil means nobody is denied.
	Denied func() (map[string]bool, error)
	// Peers are the environment's other servers; the zero Peers are none.
	Peers Peers
	// Bounds say when the failures of some proxies hold their class at an earlier
	// release. Narrows says whether the newer release takes away what the older one
	// gives; a class is never held at the older one then, nor if it is nil.
	Bounds  Bounds
	Narrows func(older, newer release.Release) (bool, error)
	// Log and Now are required. Registry takes the metrics; nil makes one.
	Log      *slog.Logger
	Now      func() time.Time
	Registry *prometheus.Registry
	// Owner says who answers for the resource of that name in the release; nil or
	// "" if unknown. It is asked only when a proxy refuses the resource.
	Owner func(r release.Release, resource string) string
	// Source says how it is with the source of approved releases now; nil if nobody
	// knows. SourceChanged tells that an answer has changed.
	Source func() *Source
	// Ready says why clients should ask another server now, although this one has a release;
	// nil if they need not. Nil means that they never need to.
	Ready func() error
	// Grace is how long streams may end by themselves at the end, default 3 s.
	Grace time.Duration
}

func (c Config) check() error {
	switch {
	case c.TLS == nil:
		return errors.New("no TLS: proxies are known by their certificates only")
	case c.TrustDomain == "":
		return errors.New("no trust domain")
	case c.StateDir == "":
		return errors.New("no state folder")
	case c.Log == nil || c.Now == nil:
		return errors.New("no logger or no clock")
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.WithDefaults()
	if c.EndpointPoll <= 0 {
		c.EndpointPoll = 30 * time.Second
	}
	if c.ResolveEvery <= 0 {
		c.ResolveEvery = 10 * time.Second
	}
	c.ResolveEvery = max(c.ResolveEvery, time.Second)
	if c.ConnectionsPerSecond == 0 {
		c.ConnectionsPerSecond = 200
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Grace <= 0 {
		c.Grace = 3 * time.Second
	}
	return c
}
