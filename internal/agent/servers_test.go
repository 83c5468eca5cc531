package agent

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// twin is another server of the same authority.
func (p *plane) twin(t *testing.T) *plane {
	t.Helper()
	q := &plane{a: p.a, tokens: p.tokens}
	q.start(t)
	t.Cleanup(func() { q.server.Stop() })
	return q
}

// TestTheNextServerTakesOver: join, renewals and ADS go to whichever of two servers is there,
// and never to both.
func TestTheNextServerTakesOver(t *testing.T) {
	p := newPlane(t, time.Hour)
	planes := []*plane{p, p.twin(t)}
	var open, most atomic.Int64
	for i, q := range planes {
		q.ads = func(_ string, s grpc.ServerStream) error {
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer open.Add(-1)
			_ = send(s, fmt.Append(nil, i))
			<-s.Context().Done()
			return nil
		}
	}
	cfg := p.config(t, "shop/web")
	cfg.Servers = []string{planes[0].addr, planes[1].addr}
	planes[0].server.Stop()
	r := start(t, cfg)
	r.joined(t)
	renewed := func() {
		t.Helper()
		s, err := loadSVID(cfg.StateDir, identityName)
		if err != nil {
			t.Fatal(err)
		}
		k := &keeper{cfg: r.cfg}
		if _, err := k.renew(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 4 {
		here, gone := planes[1-round%2], planes[round%2]
		renewed()
		var s grpc.ClientStream
		eventually(t, "a stream", func() error {
			s = adsStream(t, r, deltaMethod)
			b, err := recv(s)
			if err == nil && string(b) != fmt.Sprint(1-round%2) {
				t.Fatalf("round %d: %q answers", round, b)
			}
			return err
		})
		gone.start(t)
		renewed()
		here.server.Stop()
		if _, err := recv(s); status.Code(err) != codes.Unavailable {
			t.Fatalf("round %d: the stream ended with %v", round, err)
		}
		eventually(t, "the end of the stream at the server", func() error {
			if open.Load() > 0 {
				return os.ErrExist
			}
			return nil
		})
	}
	if most.Load() != 1 {
		t.Errorf("%d streams at one time", most.Load())
	}
}
