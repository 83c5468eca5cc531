package dns

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"meshc.dev/meshc/xds-server/internal/endpoints"
)

// zone is a name server on loopback with IPv4 addresses that tests change.
type zone struct {
	conn net.PacketConn
	mu   sync.Mutex
	a    map[string][][4]byte // by name with its last dot; nil: no answer at all
}

func newZone(t *testing.T) *zone {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{conn: conn, a: map[string][][4]byte{}}
	done := make(chan struct{})
	go func() { defer close(done); z.serve() }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return z
}

func (z *zone) set(name string, ips ...[4]byte) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.a[name] = ips
}

func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", z.conn.LocalAddr().String())
	}}
}

func (z *zone) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := z.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if reply := z.answer(buf[:n]); reply != nil {
			_, _ = z.conn.WriteTo(reply, from)
		}
	}
}

func (z *zone) answer(raw []byte) []byte {
	var q dnsmessage.Message
	if q.Unpack(raw) != nil || len(q.Questions) != 1 {
		return nil
	}
	name := q.Questions[0].Name
	z.mu.Lock()
	ips, known := z.a[name.String()]
	z.mu.Unlock()
	if known && ips == nil {
		return nil // silent
	}
	r := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
	if !known {
		r.RCode = dnsmessage.RCodeNameError
	}
	if q.Questions[0].Type == dnsmessage.TypeA {
		for _, ip := range ips {
			r.Answers = append(r.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.AResource{A: ip},
			})
		}
	}
	out, err := r.Pack()
	if err != nil {
		return nil
	}
	return out
}

// told keeps the last word on every name.
type told struct {
	mu   sync.Mutex
	last map[string]string
	news chan struct{}
}

func newTold() *told { return &told{last: map[string]string{}, news: make(chan struct{}, 1)} }

func (w *told) sink(cs []endpoints.Change, ps []endpoints.Problem) {
	w.mu.Lock()
	for _, c := range cs {
		var list []string
		for a := range c.Addresses.All() {
			list = append(list, a.Addr.String())
		}
		w.last[c.Key.DNS] = strings.Join(list, " ")
	}
	for _, p := range ps {
		w.last[p.Key.DNS] = "error: " + p.Err.Error()
	}
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// until waits for a word on a name that holds want.
func (w *told) until(t *testing.T, name, want string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		w.mu.Lock()
		got := w.last[name]
		w.mu.Unlock()
		if got == want || strings.HasPrefix(got, "error: ") && want != "" && strings.Contains(got, want) {
			return
		}
		select {
		case <-w.news:
		case <-deadline:
			t.Fatalf("%s: got %q, want %q", name, got, want)
		}
	}
}

func watch(t *testing.T, z *zone, every time.Duration) (*Source, *told) {
	t.Helper()
	s, w := New(Config{Every: every, Resolver: z.resolver()}), newTold()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, w.sink) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, w
}

func TestNamesAreLookedUpAgain(t *testing.T) {
	z := newZone(t)
	z.set("reviews.test.", [4]byte{10, 0, 0, 2}, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2})
	s, w := watch(t, z, 5*time.Millisecond)
	s.Want([]string{"reviews.test:9080", "nobody.test:80", "10.0.0.7:80"})
	w.until(t, "reviews.test:9080", "10.0.0.1:9080 10.0.0.2:9080")
	w.until(t, "nobody.test:80", "no such host")
	w.until(t, "10.0.0.7:80", "10.0.0.7:80")
	z.set("reviews.test.", [4]byte{10, 0, 0, 3})
	w.until(t, "reviews.test:9080", "10.0.0.3:9080")
	z.set("nobody.test.", [4]byte{10, 0, 0, 9})
	w.until(t, "nobody.test:80", "10.0.0.9:80")
}

// A name whose server does not answer holds the others back neither at once nor later.
func TestSilentNameHoldsNobody(t *testing.T) {
	z := newZone(t)
	z.set("silent.test.")
	z.set("fine.test.", [4]byte{10, 0, 0, 1})
	s, w := watch(t, z, time.Hour)
	s.Want([]string{"silent.test:80", "fine.test:80"})
	start := time.Now()
	w.until(t, "fine.test:80", "10.0.0.1:80")
	if took := time.Since(start); took > timeout {
		t.Errorf("it took %v", took)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if got, ok := w.last["silent.test:80"]; ok {
		t.Errorf("silent.test was told first: %s", got)
	}
}

func TestWrongNames(t *testing.T) {
	s := New(Config{Every: time.Hour, Resolver: newZone(t).resolver()})
	for name, want := range map[string]string{
		"reviews": "not host:port", "reviews:http": "not a number", "reviews:0": "not a number", "reviews:65536": "not a number", "": "not host:port",
	} {
		if _, err := s.resolve(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNewWishesAreLookedUpSoon(t *testing.T) {
	z := newZone(t)
	z.set("late.test.", [4]byte{10, 0, 0, 5})
	s, w := watch(t, z, time.Hour)
	names := []string{"late.test:80"}
	s.Want(names)
	names[0] = "changed.by.caller:80"
	w.until(t, "late.test:80", "10.0.0.5:80")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.last) != 1 {
		t.Errorf("told %v", w.last)
	}
}
