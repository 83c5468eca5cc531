// Package judging is the process side of whoever answers reviews.
//
// In: a way to answer under a TLS configuration. Out: on standard output, where it listens
// and by which roots its certificate is good, then for each line of standard input what the
// process has allocated. It ends with its standard input.
package judging

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/webhook"
)

// Address is the first that the process says.
type Address struct {
	Address string `json:"address"`
	Roots   string `json:"roots"` // PEM
}

// Allocated is what a process has allocated since its start.
type Allocated struct{ Objects, Bytes uint64 }

// Open opens the port of whoever answers; run serves until its context ends.
type Open func(ctx context.Context, conf *tls.Config) (addr string, run func(context.Context) error, err error)

// Serve answers until in ends. roots is a file for the roots of the certificate.
func Serve(roots string, open Open, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	certs, err := webhook.OpenCertificates(ctx, kept.File(roots), []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return err
	}
	addr, run, err := open(ctx, certs.TLS())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return run(ctx) })
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	say := json.NewEncoder(out)
	if err := say.Encode(Address{Address: net.JoinHostPort("127.0.0.1", port), Roots: string(certs.Bundle())}); err != nil {
		return err
	}
	asked := bufio.NewScanner(in)
	for asked.Scan() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if err := say.Encode(Allocated{m.Mallocs, m.TotalAlloc}); err != nil {
			return err
		}
	}
	if err := asked.Err(); err != nil {
		return fmt.Errorf("reading standard input: %w", err)
	}
	cancel()
	return g.Wait()
}
