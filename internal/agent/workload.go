package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"meshc.dev/meshc/internal/diag"
)

// workload gets the identity from a SPIFFE Workload API (SPIRE's agent, as a rule), which
// renews it by itself. Nothing of it is stored: whoever starts again asks again.
type workload struct {
	cfg   Config
	hold  *holder
	log   *slog.Logger
	stats *stats
	// refused is why the first identity cannot be used. It ends the agent.
	refused chan error
	// end ends the watch that first begins; done is closed when it has ended.
	end  context.CancelFunc
	done chan struct{}
	down bool // the last thing heard is that the API gives nothing
}

func newWorkload(cfg Config, hold *holder, log *slog.Logger, st *stats) *workload {
	return &workload{cfg: cfg, hold: hold, log: log, stats: st, refused: make(chan error, 1), done: make(chan struct{})}
}

// first waits for an identity: the API may come later than the agent, and an identity may
// be registered later still.
func (w *workload) first(ctx context.Context) error {
	_, next := w.hold.get()
	watching, end := context.WithCancel(context.WithoutCancel(ctx)) // it outlives ctx, as Envoy does
	w.end = end
	go func() {
		defer close(w.done)
		if err := workloadapi.WatchX509Context(watching, w, workloadapi.WithAddr(w.cfg.SPIFFEEndpoint)); err != nil && watching.Err() == nil {
			w.refuse(fmt.Errorf("asking the Workload API at %q: %w", w.cfg.SPIFFEEndpoint, err))
		}
	}()
	select {
	case <-next:
		return nil
	case err := <-w.refused:
		end()
		return err
	case <-ctx.Done():
		end()
		return ctx.Err()
	}
}

// run follows the API until ctx ends. What cannot be used does not replace what is there.
func (w *workload) run(ctx context.Context) error {
	<-ctx.Done()
	w.end()
	<-w.done
	return nil
}

func (w *workload) refuse(err error) {
	if cur, _ := w.hold.get(); cur == nil {
		select {
		case w.refused <- err:
		default:
		}
		return
	}
	w.stats.renewFailures.Add(1)
	w.log.Error("the Workload API gives what cannot be used; the identity before stays", "error", err)
}

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher: here is an identity.
func (w *workload) OnX509ContextUpdate(c *workloadapi.X509Context) {
	w.down = false
	s, err := w.pick(c)
	if err != nil {
		w.refuse(err)
		return
	}
	if cur, _ := w.hold.get(); cur != nil {
		w.stats.renewals.Add(1)
	}
	w.hold.set(s)
	w.log.Info("identity", "how", "Workload API", "id", s.id.String(), "serial", s.chain[0].SerialNumber.Text(16), "not_after", s.notAfter(), "roots", len(s.bundle))
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher: the API is away, or
// has no identity for us. It is asked again, with growing pauses.
func (w *workload) OnX509ContextWatchError(err error) {
	if w.down {
		return
	}
	w.down = true
	w.stats.renewFailures.Add(1)
	left := "there is no identity yet"
	if cur, _ := w.hold.get(); cur != nil {
		left = "the identity that is there lasts until " + cur.notAfter().UTC().Format(time.RFC3339)
	}
	w.log.Warn("the Workload API gives no identity; it is asked again", "socket", w.cfg.SPIFFEEndpoint, "left", left, "error", err)
}

// pick takes the identity that --identity names, else the first, with the roots of its
// trust domain, which must be the mesh's.
func (w *workload) pick(c *workloadapi.X509Context) (*svid, error) {
	var first error
	for _, one := range c.SVIDs {
		if err := w.cfg.wants(one.ID); err != nil {
			first = errors.Join(first, err)
			continue
		}
		return w.take(one, c)
	}
	return nil, first
}

func (w *workload) take(one *x509svid.SVID, c *workloadapi.X509Context) (*svid, error) {
	td, err := w.cfg.trustDomain()
	if err != nil {
		return nil, err
	}
	if !one.ID.MemberOf(td) {
		return nil, problem(diag.New(diag.CodeIdentityMismatch, diag.Pos{}, "the Workload API says that this is %q, and the mesh is trust domain %q", one.ID, td).
			WithFix("let both have one trust domain: `trust_domain` of SPIRE, --trust-domain of `meshc serve`"))
	}
	b, err := c.Bundles.GetX509BundleForTrustDomain(td)
	if err != nil {
		return nil, fmt.Errorf("reading the Workload API's roots: %w", err)
	}
	if _, _, err := x509svid.Verify(one.Certificates, b, x509svid.WithTime(w.cfg.Clock())); err != nil {
		return nil, fmt.Errorf("verifying the certificate of %q: %w", one.ID, err)
	}
	return &svid{id: one.ID, chain: one.Certificates, key: one.PrivateKey, bundle: b.X509Authorities()}, nil
}

// serverRoots are those that the server may be signed by: the ones that came with the
// certificate, or of a Workload API, which knows nothing of our server, the operator's.
func (c Config) serverRoots(s *svid) ([]*x509.Certificate, error) {
	if c.SPIFFEEndpoint == "" {
		return s.bundle, nil
	}
	return c.roots()
}

// source is where an identity comes from, and who keeps it fresh.
type source interface {
	first(ctx context.Context) error
	run(ctx context.Context) error
}
