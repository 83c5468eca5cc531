package envoy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// Who comes without a certificate gets no answer of a strict port, and one of a permissive port
// or of one that is asked something: what the evaluator says of who has no identity.
func TestStrictPortsCloseWhatIsPlain(t *testing.T) {
	p := shop(t, `
mesh: service: strict: {port: http: number: 80, grant: all: mesh: true}
mesh: service: probed: {port: http: number: 80, grant: all: mesh: true, probe: live: path: "/live"}
mesh: service: both: {port: http: number: 80, mtls: {mode: "permissive", until: "2026-12-24T00:00:00Z", owner: "a", reason: "b"}, grant: all: mesh: true}
mesh: service: raw: {port: tcp: {number: 80, protocol: "tcp"}, grant: all: mesh: true}
`)
	var rs []compiler.Request
	for _, to := range []string{"strict", "probed", "both", "raw"} {
		rs = append(rs, compiler.Request{To: "shop/" + to, Path: "/other"})
	}
	_, stage := stageOf(t.Context(), t, p, rs)
	for i, listener := range []string{"inbound/shop/strict/http/default", "inbound/shop/probed/http/default", "inbound/shop/both/http/default", "inbound/shop/raw/tcp/default"} {
		want, err := p.Decide(rs[i])
		if err != nil {
			t.Fatal(err)
		}
		status, err := askPlain(t.Context(), stage, listener)
		if err != nil {
			t.Fatalf("%s: %v", listener, err)
		}
		if status != want.Status || want.Closed != (status == 0) {
			t.Errorf("%s: %d, but the evaluator says %d (%s)", listener, status, want.Status, want.Words())
		}
	}
}

// askPlain is the status of what a plain request to a listener gets, 0 if that closes the
// connection without a word.
func askPlain(ctx context.Context, stage *rehearsal.Stage, listener string) (int, error) {
	c, err := stage.Plain(ctx, listener)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(c, "GET /other HTTP/1.1\r\nhost: a.test\r\n\r\n"); err != nil && !errors.Is(err, syscall.EPIPE) {
		return 0, err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}
