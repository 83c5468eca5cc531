package hostile

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func target() Target { return Target{Host: "shop.test", Path: "/a", SizeHeader: "x-size"} }

// A finding is of use only if the same number makes the same bytes, and if what is
// printed makes them again.
func TestAttacksCanBeMadeAgain(t *testing.T) {
	parts := map[string]bool{}
	for i := range 3000 {
		a, b := At(7, i, target()), At(7, i, target())
		if !bytes.Equal(a.Bytes(), b.Bytes()) || a.Part != b.Part || a.End != b.End {
			t.Fatalf("attack %d differs from itself", i)
		}
		part, _, _ := strings.Cut(a.Part, ",")
		for _, p := range strings.Split(part, " and ") {
			parts[p] = true
		}
		if n := len(a.Bytes()) * max(1, a.Times); n > 50<<20 {
			t.Errorf("attack %d has %d bytes", i, n)
		}
		if got := fromGo(t, a.Go()); i < 500 && !bytes.Equal(got, a.Bytes()) {
			t.Fatalf("attack %d as Go: %.500q, want %.500q", i, got, a.Bytes())
		}
	}
	if want := len(varieties1()) + len(varieties2()); len(parts) < want*2/3 {
		t.Errorf("3,000 attacks are about %d parts only, of more than %d", len(parts), want)
	}
	if bytes.Equal(At(7, 0, target()).Bytes(), At(8, 0, target()).Bytes()) {
		t.Error("the seed makes no difference")
	}
}

// fromGo is the bytes of all literals in a Go expression.
func fromGo(t *testing.T, text string) []byte {
	t.Helper()
	e, err := parser.ParseExpr(text)
	if err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	var out []byte
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			key, _ := n.Key.(*ast.Ident)
			return key.Name == "Sends"
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Repeat" {
				times, _ := strconv.Atoi(n.Args[1].(*ast.BasicLit).Value)
				out = append(out, strings.Repeat(unquote(t, n.Args[0]), times)...)
				return false
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				out = append(out, unquote(t, n)...)
			}
		}
		return true
	})
	return out
}

func unquote(t *testing.T, e ast.Expr) string {
	t.Helper()
	s, err := strconv.Unquote(e.(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestShellMakesTheBytes(t *testing.T) {
	for i := range 60 {
		a := At(3, i, target())
		a.Pause, a.End = 0, HungUp // no sleeping
		script, _, _ := strings.Cut(a.Shell("127.0.0.1:1"), ") | nc")
		cmd := exec.CommandContext(t.Context(), "bash")
		cmd.Stdin = strings.NewReader(script + ")")
		got, err := cmd.Output()
		if err != nil || !bytes.Equal(got, a.Bytes()) {
			t.Fatalf("attack %d, %.300s:\n%.300q (%v), want\n%.300q", i, script, got, err, a.Bytes())
		}
	}
}

// weak is a server that drops all its clients when one of them sends a word.
type weak struct {
	net.Listener
	word string
	mu   sync.Mutex
	open map[*weakConn]bool
}

type weakConn struct {
	net.Conn
	l    *weak
	read []byte
}

func (l *weak) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &weakConn{Conn: c, l: l}
	l.open[w] = true
	return w, nil
}

func (c *weakConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.read = append(c.read, b[:n]...); bytes.Contains(c.read, []byte(c.l.word)) {
		c.read = nil // heard once
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		for other := range c.l.open {
			_ = other.Close()
		}
		clear(c.l.open)
	}
	return n, err
}

func weakDoor(t *testing.T, word string) Door {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: inTime, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream := http.NewResponseController(w)
		_ = stream.EnableFullDuplex()
		buf := make([]byte, 1024)
		for {
			n, err := r.Body.Read(buf)
			if _, failed := w.Write(buf[:n]); failed != nil || err != nil {
				return
			}
			_ = stream.Flush()
		}
	})}
	go func() { _ = s.Serve(&weak{Listener: l, word: word, open: map[*weakConn]bool{}}) }()
	t.Cleanup(func() { _ = s.Close() })
	return Door{Name: "weak", Addr: l.Addr().String(), Target: target()}
}

func TestHuntFindsAndCutsDown(t *testing.T) {
	h := Hunt{Doors: []Door{weakDoor(t, "x-envoy")}, Seed: 1, For: time.Minute}
	got, err := h.Run(t.Context())
	if err != nil || len(got.Findings) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if f := got.Findings[0]; string(f.Attack.Bytes()) != "x-envoy" || f.Attack.Times > 1 || f.Attack.End != Answered {
		t.Errorf("not cut down: %s", f)
	}
	if f := got.Findings[0]; f.Number < 0 || !bytes.Contains(At(1, f.Number, target()).Bytes(), []byte("x-envoy")) {
		t.Errorf("attack %d is not the one", f.Number)
	}
}

func TestHuntFindsNothingWhereNothingIs(t *testing.T) {
	h := Hunt{Doors: []Door{weakDoor(t, "\x00no such word\x00")}, Seed: 1, For: 2 * time.Second}
	for h.First < 2*perRound { // a busy machine may be at one round for all that time
		got, err := h.Run(t.Context())
		if err != nil || len(got.Findings) != 0 || got.Attacks == 0 {
			t.Fatalf("%+v, %v", got, err)
		}
		h.First += got.Attacks
	}
}

func TestHuntSaysWhenNobodyIsServed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	d := weakDoor(t, "GET") // the neighbour himself says it
	if _, err := (Hunt{Doors: []Door{d}, For: time.Second}).Run(ctx); err == nil || !strings.Contains(err.Error(), "before the attack") {
		t.Errorf("got %v", err)
	}
	if _, err := (Hunt{Doors: []Door{d}}).Try(ctx, func(Door) Attack { return Attack{} }); err == nil {
		t.Error("an attack was tried where nobody is served")
	}
}
