package envoy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/hop"
	"meshc.dev/meshc/internal/rehearsal"
)

const outlier = `outlier: {consecutive5xx: 3, interval: "1s", baseEjection: "1h", maxEjectionPercent: 100}`

// notEjected fails if a proxy has put the workload aside.
func (d doors) notEjected(t *testing.T) {
	t.Helper()
	for _, door := range []compiler.Door{d.gateway, d.sidecar} {
		page, err := d.stage.Admin(t.Context(), door.Class, "/clusters")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(page), "health_flags::/failed_outlier_check") {
			t.Errorf("%s has ejected the workload", door.Class)
		}
	}
}

// The last request that the first proxy takes reaches the application; the next one
// is answered by it with 431, and nothing of it is the workload's failure. The
// evaluator knows both.
func TestFirstProxyIsTheOneThatRefusesWhatIsTooLarge(t *testing.T) {
	d := openDoors(t, outlier)
	p := shop(t, `
mesh: service: app: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: "app.shop": route: all: to: app: 100}`)
	for door, l := range map[string]hop.Limits{"gateway": hop.At(hop.Gateway), "sidecar": hop.At(hop.Outbound)} {
		lines, size := int(l.HeaderLines), int(l.HeaderKiB)<<10
		const frame = len("GET / HTTP/1.1\r\nhost: app.shop\r\nx: \r\n\r\n")
		for name, c := range map[string]compiler.Request{
			"lines":      {Headers: manyLines(lines - 1)},
			"lines + 1":  {Headers: manyLines(lines)},
			"joined":     {Headers: append(manyLines(lines-2), compiler.Header{Name: "accept", Value: "a"}, compiler.Header{Name: "accept", Value: "b"})},
			"value":      {Headers: []compiler.Header{{Name: "x", Value: strings.Repeat("a", size-frame)}}},
			"value + 1":  {Headers: []compiler.Header{{Name: "x", Value: strings.Repeat("a", size-frame+1)}}},
			"wide value": {Headers: []compiler.Header{{Name: "x", Value: strings.Repeat("{", size-frame)}}}, // HPACK does not make it smaller
			"path":       {Path: "/" + strings.Repeat("a", size-frame+len("x: \r\n"))},
			"path + 1":   {Path: "/" + strings.Repeat("a", size-frame+len("x: \r\n")+1)},
			"path, 431":  {Path: "bad" + strings.Repeat("a", size)},
			"both":       {Path: "/" + strings.Repeat("a", size/2), Headers: []compiler.Header{{Name: "x", Value: strings.Repeat("a", size-size/2-frame)}}},
			"both + 1":   {Path: "/" + strings.Repeat("a", size/2), Headers: []compiler.Header{{Name: "x", Value: strings.Repeat("a", size-size/2-frame+1)}}},
			"everything": {Headers: append(manyLines(lines-2), compiler.Header{Name: "x", Value: strings.Repeat("a", size-frame-(lines-2)*len("x-n1000: 1\r\n"))})},
		} {
			c.Host, c.To = "app.shop", "gateway/shop/edge"
			at := d.gateway
			if door == "sidecar" {
				c.From, c.To, at = "shop/app", "shop/app", d.sidecar
			}
			want, err := p.Decide(c)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(name, "1"); got != (want.Status == http.StatusRequestHeaderFieldsTooLarge) {
				t.Errorf("%s, %s: the evaluator says %s", door, name, want.Words())
			}
			for range 4 { // more than it takes to eject
				got, err := d.stage.Ask(t.Context(), at, c)
				if err != nil {
					t.Fatalf("%s, %s: %v", door, name, err)
				}
				if why := rehearsal.Differs(want, c, got); why != "" {
					t.Errorf("%s, %s: %.300s", door, name, why)
				}
			}
		}
	}
	d.notEjected(t)
}

func manyLines(n int) []compiler.Header {
	out := make([]compiler.Header, n)
	for i := range out {
		out[i] = compiler.Header{Name: fmt.Sprintf("x-n%d", 1000+i), Value: "1"}
	}
	return out
}

// slow begins a request that is answered after the wait, and returns when it has
// reached the application.
func (d doors) slow(t *testing.T, addr, path string, wait time.Duration) <-chan int {
	t.Helper()
	out := make(chan int, 1)
	go func() {
		status, _ := say(t.Context(), addr, "GET "+path+" HTTP/1.1\r\nhost: app.shop\r\n"+rehearsal.WaitHeader+": "+wait.String()+"\r\n\r\n")
		out <- status
	}()
	d.until(t, path, 1)
	return out
}

// until waits until so many requests with that path have reached the application.
func (d doors) until(t *testing.T, path string, n int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		seen := 0
		for _, s := range d.stage.Seen() {
			if s.Path == path {
				seen++
			}
		}
		if seen >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d requests to %s have arrived", seen, n, path)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// hold opens connections that each send the text, and hangs up on all of them at once.
func hold(t *testing.T, addr, text string, n int) (hangUp func()) {
	t.Helper()
	conns := make([]net.Conn, n)
	var g errgroup.Group
	g.SetLimit(64)
	for i := range n {
		g.Go(func() error {
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				return err
			}
			conns[i] = c
			_, err = io.WriteString(c, text)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return func() {
		for _, c := range conns {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}
}

// Visitors who hang up, one by one or all at once, end their own requests.
func TestHangingUpEndsNobodyElsesRequest(t *testing.T) {
	d := openDoors(t, outlier)
	for door, addr := range d.addresses {
		neighbour := d.slow(t, addr, "/neighbour/"+door, 8*time.Second)
		for range 40 {
			hold(t, addr, "GET /gone HTTP/1.1\r\nhost: app.shop\r\n"+rehearsal.WaitHeader+": 20s\r\n\r\n", 20)()
		}
		path := "/all/" + door
		hangUp := hold(t, addr, "GET "+path+" HTTP/1.1\r\nhost: app.shop\r\n"+rehearsal.WaitHeader+": 20s\r\n\r\n", 600)
		d.until(t, path, 600)
		hangUp()
		if got := <-neighbour; got != http.StatusOK {
			t.Errorf("%s: the neighbour got %d", door, got)
		}
	}
	d.notEjected(t)
}

// Visitors who ask for much and do not read it keep nobody else waiting.
func TestSlowReadersKeepNobodyWaiting(t *testing.T) {
	d := openDoors(t, "")
	for door, addr := range d.addresses {
		path := "/much/" + door
		hangUp := hold(t, addr, "GET "+path+" HTTP/1.1\r\nhost: app.shop\r\n"+rehearsal.SizeHeader+": 50000000\r\n\r\n", 100)
		d.until(t, path, 100)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		for i := range 20 {
			status, err := readAll(ctx, addr, "GET / HTTP/1.1\r\nhost: app.shop\r\nconnection: close\r\n"+rehearsal.SizeHeader+": 200000\r\n\r\n")
			if err != nil || status < 200000 {
				t.Errorf("%s, neighbour %d: %d bytes, %v", door, i, status, err)
				break
			}
		}
		cancel()
		hangUp()
	}
}

// sendText opens a connection that ends with ctx, and writes what a client says.
func sendText(ctx context.Context, addr, text string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// readAll returns how many bytes come back.
func readAll(ctx context.Context, addr, text string) (int, error) {
	c, err := sendText(ctx, addr, text)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return len(b), err
}
