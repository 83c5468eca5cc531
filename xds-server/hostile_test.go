package xdsserver

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshc.dev/meshc/compiler/release"
)

// client is the TLS side of a proxy with an identity, which an attacker may have.
func (w *world) client(t *testing.T) *tls.Config {
	t.Helper()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: w.pool(), ServerName: "localhost", NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{w.issue(t, web.SPIFFEID(trustDomain))},
	}
}

// attack is a connection on which frames are written by hand. What the server
// says is thrown away; a write that fails ends the attack.
type attack struct {
	*http2.Framer
	conn net.Conn
	hp   *hpack.Encoder
	buf  bytes.Buffer
}

func (w *world) attack(t *testing.T, settings ...http2.Setting) *attack {
	t.Helper()
	c, err := tls.Dial("tcp", w.Addr().String(), w.client(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	a := &attack{conn: c, Framer: http2.NewFramer(c, nil)}
	a.hp = hpack.NewEncoder(&a.buf)
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := a.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	return a
}

func (a *attack) headers(path string) []byte {
	a.buf.Reset()
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = a.hp.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // a bytes.Buffer takes all
	}
	return bytes.Clone(a.buf.Bytes())
}

func (a *attack) open(id uint32, end bool) error {
	return a.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: a.headers(discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName), EndHeaders: end,
	})
}

// TestFramesOfAnAttacker: floods of HTTP/2 frames that are cheap to send. A good
// proxy follows changes meanwhile, and nothing is left when the attacker is gone.
func TestFramesOfAnAttacker(t *testing.T) {
	const many = 20_000
	repeat := func(f func(i uint32) error) {
		end := time.Now().Add(time.Second)
		for i := uint32(0); i < many && time.Now().Before(end); i++ {
			if f(i) != nil {
				return // the server has closed the connection, as it should
			}
		}
	}
	for name, act := range map[string]func(t *testing.T, w *world){
		"streams opened and reset": func(t *testing.T, w *world) {
			a := w.attack(t)
			repeat(func(i uint32) error {
				if err := a.open(2*i+1, true); err != nil {
					return err
				}
				return a.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
			})
		},
		"streams opened and left": func(t *testing.T, w *world) {
			a := w.attack(t)
			repeat(func(i uint32) error { return a.open(2*i+1, true) })
		},
		"headers without end": func(t *testing.T, w *world) {
			a := w.attack(t)
			_ = a.open(1, false)
			more := a.headers("/x")
			repeat(func(uint32) error { return a.WriteContinuation(1, false, more) })
		},
		"pings": func(t *testing.T, w *world) {
			a := w.attack(t)
			repeat(func(uint32) error { return a.WritePing(false, [8]byte{}) })
		},
		"settings": func(t *testing.T, w *world) {
			a := w.attack(t)
			repeat(func(uint32) error { return a.WriteSettings() })
		},
		"window updates": func(t *testing.T, w *world) {
			a := w.attack(t)
			repeat(func(uint32) error { return a.WriteWindowUpdate(0, 1<<20) })
		},
		"no window": func(t *testing.T, w *world) {
			a := w.attack(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			_ = a.open(1, true)
			ask := []byte{0, 0, 0, 0, 0}
			ask = append(ask, fmt.Sprintf("\x22%c%s", len(release.ClusterType), release.ClusterType)...) // field 4: the type
			ask[4] = byte(len(ask) - 5)
			repeat(func(uint32) error { return a.WriteData(1, false, ask) })
		},
		"a message that never ends": func(t *testing.T, w *world) {
			a := w.attack(t)
			_ = a.open(1, true)
			_ = a.WriteData(1, false, []byte{0, 0xff, 0xff, 0xff, 0xff})
			repeat(func(uint32) error { return a.WriteData(1, false, make([]byte, 1024)) })
		},
		"half a handshake": func(t *testing.T, w *world) {
			repeat(func(i uint32) error {
				if i > 300 {
					return io.EOF
				}
				c, err := net.Dial("tcp", w.Addr().String())
				if err == nil {
					t.Cleanup(func() { _ = c.Close() })
					_, err = c.Write([]byte{22, 3, 1, 2})
				}
				return err
			})
		},
		"another protocol": func(t *testing.T, w *world) {
			c, err := tls.Dial("tcp", w.Addr().String(), w.client(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, c); isTimeout(err) {
				t.Error("the connection stays open")
			}
		},
		"no protocol named": func(t *testing.T, w *world) {
			tc := w.client(t)
			tc.NextProtos = nil
			c, err := tls.Dial("tcp", w.Addr().String(), tc)
			if err != nil {
				return // refused
			}
			t.Cleanup(func() { _ = c.Close() })
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, c); isTimeout(err) {
				t.Error("the connection stays open")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := run(t)
			if err := os.MkdirAll(w.endpoints, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(w.endpoints, "addresses.yaml"), []byte(`endpoints: ["10.0.0.1:80"]`), 0o600); err != nil {
				t.Fatal(err)
			}
			w.approve(t, "commit-0", time.Second)
			ports, ended := w.proxy(t)
			follow(t, ports, ended)
			before := runtime.NumGoroutine()
			done := make(chan struct{})
			t.Run("attack", func(t *testing.T) {
				go func() { defer close(done); act(t, w) }()
				worst := time.Duration(0)
				for i := 0; ; i++ {
					select {
					case <-done:
						t.Logf("the good proxy waited %s at most", worst)
						if worst > 15*time.Second { // some milliseconds on a quiet machine, seconds on a busy one
							t.Error("too long")
						}
						return
					default:
					}
					w.approve(t, fmt.Sprint("commit-", i+1), time.Duration(2+i%2)*time.Second)
					at := time.Now()
					follow(t, ports, ended)
					worst = max(worst, time.Since(at))
				}
			})
			soon(t, func() string {
				if n := runtime.NumGoroutine(); n > before+5 {
					return fmt.Sprintf("%d goroutines before, %d after", before, n)
				}
				return ""
			})
		})
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // asked of the connection itself
	return ok && ne.Timeout()
}

// follow waits until the good proxy has got addresses.
func follow(t *testing.T, ports <-chan []uint32, ended <-chan error) {
	t.Helper()
	for {
		select {
		case p := <-ports:
			if len(p) > 0 {
				return
			}
		case err := <-ended:
			t.Fatalf("the good proxy's stream ended: %v", err)
		case <-time.After(patience):
			t.Fatal("the good proxy got nothing")
		}
	}
}

// TestManyConnectionsLeaveNothing: connections and streams that come and go.
func TestManyConnectionsLeaveNothing(t *testing.T) {
	w := run(t)
	w.approve(t, "commit-1", time.Second)
	creds := credentials.NewTLS(w.client(t))
	visit := func(streams int) {
		conn, err := grpc.NewClient(w.Addr().String(), grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range streams {
			st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: release.ClusterType})
			if _, err := st.Recv(); err != nil {
				t.Fatal(err)
			}
		}
	}
	visit(1)
	memory := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	goroutines, heap := runtime.NumGoroutine(), memory()
	for range 100 {
		visit(50)
	}
	soon(t, func() string {
		if n := runtime.NumGoroutine(); n > goroutines+5 {
			return fmt.Sprintf("%d goroutines before, %d after", goroutines, n)
		}
		if n := memory(); n > heap+8<<20 {
			return fmt.Sprintf("%d KiB before, %d KiB after", heap>>10, n>>10)
		}
		return ""
	})
	if n := len(w.Status().Proxies); n > 10 {
		t.Errorf("%d proxies remembered", n)
	}
}

// TestEndWhileSending: the server ends within its grace although a client does not
// read and others are being sent to.
func TestEndWhileSending(t *testing.T) {
	w := run(t)
	w.approve(t, "commit-0", time.Second)
	for range 20 {
		w.proxy(t)
	}
	a := w.attack(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	_ = a.open(1, true)
	ask := append([]byte{0, 0, 0, 0, 0, 0x22, byte(len(release.ClusterType))}, release.ClusterType...)
	ask[4] = byte(len(ask) - 5)
	_ = a.WriteData(1, false, ask)
	soon(t, func() string {
		if n := len(w.Status().Proxies); n < 21 {
			return fmt.Sprintf("%d proxies", n)
		}
		return ""
	})
	stopped := make(chan error, 1)
	go func() {
		time.Sleep(50 * time.Millisecond)
		stopped <- w.stop()
	}()
	started := time.Now()
	for i := 0; ; i++ {
		select {
		case err := <-stopped:
			if d := time.Since(started); err != nil || d > 30*time.Second { // the grace is three seconds
				t.Errorf("%v after %s", err, d)
			}
			return
		case <-time.After(10 * time.Millisecond):
			w.approve(t, fmt.Sprint("commit-", i), time.Duration(2+i%2)*time.Second)
		}
	}
}
