package pods

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// node is a machine: a namespace that its pods reach everything through, as a
// Kubernetes node routes for them.
type node struct {
	name string
	pods int
}

// pod is a network namespace with an address of each family.
type pod struct {
	netns  string
	v4, v6 netip.Addr
}

func command(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// script runs lines of commands in a namespace.
func script(t *testing.T, netns, lines string) {
	t.Helper()
	command(t, "ip", "netns", "exec", netns, "sh", "-ec", lines)
}

func namespace(t *testing.T, name string) {
	t.Helper()
	command(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() }) //nolint:noctx // the test's context has ended
	script(t, name, "ip link set lo up")
}

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("pods are network namespaces: run this test as root")
	}
	n := &node{name: fmt.Sprintf("mc%d", os.Getpid())}
	namespace(t, n.name)
	script(t, n.name, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	return n
}

// pod makes one; all that it sends goes by its node.
func (n *node) pod(t *testing.T, name string) *pod {
	t.Helper()
	n.pods++
	p := &pod{netns: n.name + name, v4: netip.AddrFrom4([4]byte{10, 88, 0, byte(10 + n.pods)}), v6: netip.MustParseAddr(fmt.Sprintf("fd88::%x", 0x10+n.pods))}
	etc := filepath.Join("/etc/netns", p.netns)     // ip-netns(8) puts it in the place of /etc
	if err := os.MkdirAll(etc, 0o755); err != nil { //nolint:gosec // as /etc
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(etc) })
	if err := os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte("nameserver "+dnsIP+"\n"), 0o644); err != nil { //nolint:gosec // as /etc
		t.Fatal(err)
	}
	namespace(t, p.netns)
	link := fmt.Sprintf("mc%dv%d", os.Getpid()%100000, n.pods)
	script(t, n.name, fmt.Sprintf(`ip link add %[1]s type veth peer name eth0 netns %[2]s
		ip addr add 10.88.0.1/32 dev %[1]s; ip -6 addr add fe80::1/64 dev %[1]s nodad; ip link set %[1]s up
		ip route add %[3]s/32 dev %[1]s; ip -6 route add %[4]s/128 dev %[1]s`, link, p.netns, p.v4, p.v6))
	script(t, p.netns, fmt.Sprintf(`ip addr add %s/32 dev eth0; ip -6 addr add %s/128 dev eth0 nodad; ip link set eth0 up
		ip route add 10.88.0.1 dev eth0; ip route add default via 10.88.0.1; ip -6 route add default via fe80::1 dev eth0`, p.v4, p.v6))
	return p
}

// service gives a Service's address to a pod's port, as a node's kube-proxy does.
func (n *node) service(t *testing.T, address string, port, target uint16, p *pod) {
	t.Helper()
	script(t, n.name, fmt.Sprintf(`nft -f - <<EOF
table ip services {
	chain to { type nat hook prerouting priority dstnat; }
}
add rule ip services to ip daddr %s tcp dport %d dnat to %s:%d
EOF`, address, port, p.v4, target))
}

// in runs f in the pod's namespace. The thread ends with it.
func (p *pod) in(f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never given back: it is of another namespace
		h, err := os.Open(filepath.Join("/run/netns", p.netns))
		if err == nil {
			err = unix.Setns(int(h.Fd()), unix.CLONE_NEWNET)
			_ = h.Close()
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

func (p *pod) dial(ctx context.Context, address string) (c net.Conn, err error) {
	if e := p.in(func() { c, err = (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", address) }); e != nil {
		return nil, e
	}
	return c, err
}

// listen is an application's port.
func (p *pod) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	if e := p.in(func() { l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", address) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func (p *pod) at(port int) []string {
	return []string{fmt.Sprintf("%s:%d", p.v4, port), fmt.Sprintf("[%s]:%d", p.v6, port)}
}

// web is an application of requests; it answers what it saw.
func (p *pod) web(t *testing.T, name string, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(reply{Name: name, Caller: r.Header.Get("X-Forwarded-Client-Cert")})
		})}
		l := p.listen(t, a)
		go func() { _ = s.Serve(l) }()
	}
}

// talker is an application of bytes that speaks first.
func (p *pod) talker(t *testing.T, name string, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		l := p.listen(t, a)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.WriteString(c, name+"\n")
					_, _ = io.Copy(c, c)
				}()
			}
		}()
	}
}

type reply struct {
	Status       int `json:"-"`
	Name, Caller string
}

// ask sends one request on a connection of its own; an error is a broken connection.
func (p *pod) ask(ctx context.Context, address, host string) (reply, error) {
	if !strings.Contains(address, "/") {
		address += "/"
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, nil)
	if err != nil {
		return reply{}, err
	}
	r.Host = host
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return p.dial(ctx, address) }}
	x, err := tr.RoundTrip(r)
	if err != nil {
		return reply{}, err
	}
	defer x.Body.Close()
	var out reply
	if x.StatusCode == http.StatusOK && x.ContentLength != 0 {
		err = json.NewDecoder(x.Body).Decode(&out)
	}
	out.Status = x.StatusCode
	return out, err
}

// greet connects, hears the greeting, and has a word returned; "" is a connection that
// ended without a byte.
func (p *pod) greet(ctx context.Context, address string, patience time.Duration) (string, error) {
	c, err := p.dial(ctx, address)
	if err != nil {
		return "", nil //nolint:nilerr // refused: nobody greeted
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	name, err := r.ReadString('\n')
	if os.IsTimeout(err) {
		return name, fmt.Errorf("still open, in silence: %w", err)
	}
	if name == "" {
		return "", nil
	}
	if _, err := io.WriteString(c, "word\n"); err != nil {
		return name, err
	}
	word, err := r.ReadString('\n')
	if word != "word\n" {
		return name, fmt.Errorf("echo %q: %w", word, err)
	}
	return strings.TrimSpace(name), nil
}
