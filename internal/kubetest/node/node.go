package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/internal/kubetest"
)

// Word is the first argument of the program when it is the node.
const Word = "kubetest-node"

// Options says what the node is called and what its images hold.
type Options struct {
	Name string // of the Node; empty = "node"
	// Images by their name in spec.containers[].image. A container of another image
	// waits with ErrImagePull.
	Images map[string]Image
}

// Image is what a container finds instead of an image: this machine's files, with some
// put elsewhere. What it writes, only it sees.
type Image struct {
	Files      map[string]string // by their path in the container, where they lie on this machine
	Entrypoint []string          // what runs in a container without a command
	Env        []string          // "NAME=value", besides PATH and HOME
}

// Node is a running node. Its owner owes a Stop.
type Node struct {
	Name string
	// Addresses are the node's, as pods see it: probes come from them.
	Addresses []netip.Addr
	// Machine are the addresses by which pods reach programs on the machine itself, that
	// listen on them or on all addresses.
	Machine []netip.Addr

	dir     string
	cmd     *exec.Cmd
	stdin   io.Closer
	ended   chan struct{}
	api     net.Listener
	control *http.Client
	stop    sync.Once
}

// setup is what the node process is told, on its stdin.
type setup struct {
	Options
	Dir     string
	Network network
	API     string // URL
	CA      []byte
	Token   string
}

const (
	startLimit = time.Minute
	readyWord  = "ready"
)

// Start starts a node and returns when it takes pods. ctx bounds the start alone. If it
// fails, nothing is left.
func Start(ctx context.Context, c *kubetest.Cluster, o Options) (*Node, error) {
	if err := Possible(); err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = "node"
	}
	dir, err := os.MkdirTemp("", "meshc-node-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for a node: %w", err)
	}
	n := &Node{Name: o.Name, dir: dir, ended: make(chan struct{})}
	wait, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := n.start(wait, c, o); err != nil {
		err = fmt.Errorf("starting a node: %w\n%s", err, n.log(30))
		n.Stop()
		return nil, err
	}
	return n, nil
}

// ForTest starts a node that ends with the test. If the test fails, it shows the last
// lines of its log and of its containers'.
func ForTest(t testing.TB, c *kubetest.Cluster, o Options) *Node {
	t.Helper()
	n, err := Start(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.Logs(30))
		}
		n.Stop()
	})
	return n
}

func (n *Node) start(ctx context.Context, c *kubetest.Cluster, o Options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(n.dir, "logs"), 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(n.dir, "node.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	n.cmd = exec.Command(self, Word)
	n.cmd.Stderr = log
	n.cmd.SysProcAttr = apart()
	stdin, err := n.cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		n.cmd = nil
		return fmt.Errorf("making its namespaces: %w", err)
	}
	n.stdin = stdin
	said := make(chan error, 1)
	go func() {
		said <- awaitReady(stdout)
		_ = n.cmd.Wait()
		close(n.ended)
	}()
	if err := n.introduce(ctx, c, o, stdin); err != nil {
		return err
	}
	select {
	case err := <-said:
		return err
	case <-ctx.Done():
		return fmt.Errorf("it is not ready: %w", ctx.Err())
	}
}

func awaitReady(from io.Reader) error {
	b := make([]byte, len(readyWord))
	if _, err := io.ReadFull(from, b); err != nil || string(b) != readyWord {
		return fmt.Errorf("it ended: %q, %w (its program has to call node.Main when its first argument is %q)", b, errors.Join(err), Word)
	}
	return nil
}

// introduce ties the node to the machine and the cluster, and tells it so.
func (n *Node) introduce(ctx context.Context, c *kubetest.Cluster, o Options, stdin io.Writer) error {
	taken, err := plugIn(ctx, n.cmd.Process.Pid)
	if err != nil {
		return err
	}
	n.Addresses = []netip.Addr{taken.v4(nodeHost), taken.v6(nodeHost)}
	n.Machine = []netip.Addr{taken.v4(machineHost), taken.v6(machineHost)}
	address, err := n.forward(ctx, strings.TrimPrefix(c.Config.Host, "https://"))
	if err != nil {
		return err
	}
	if err := publish(ctx, c, address); err != nil {
		return err
	}
	socket := filepath.Join(n.dir, controlSocket)
	n.control = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer().DialContext(ctx, "unix", socket)
	}}}
	return json.NewEncoder(stdin).Encode(setup{
		Options: o, Dir: n.dir, Network: taken, API: "https://" + address.String(), CA: c.CA, Token: c.Config.BearerToken,
	})
}

func dialer() *net.Dialer { return &net.Dialer{Timeout: 10 * time.Second} }

// forward lets pods reach the API server, which listens on loopback.
func (n *Node) forward(ctx context.Context, to string) (netip.AddrPort, error) {
	var conf net.ListenConfig
	l, err := conf.Listen(ctx, "tcp", netip.AddrPortFrom(n.Machine[0], 0).String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("opening the API server to pods: %w", err)
	}
	n.api = l
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go pipe(from, to)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String()), nil
}

func pipe(from net.Conn, to string) {
	defer func() { _ = from.Close() }()
	conn, err := dialer().Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	done := make(chan struct{}, 2)
	for _, ends := range [][2]net.Conn{{from, conn}, {conn, from}} {
		go func() {
			_, _ = io.Copy(ends[0], ends[1])
			if tcp, ok := ends[0].(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}

// Stop switches the node off: its pods end at once, and it says goodbye to nobody.
// Calling it again is harmless.
func (n *Node) Stop() {
	n.stop.Do(func() {
		if n.cmd != nil {
			_ = syscall.Kill(n.cmd.Process.Pid, syscall.SIGKILL)
			_ = n.stdin.Close()
			<-n.ended
		}
		if n.api != nil {
			_ = n.api.Close()
		}
		_ = os.RemoveAll(n.dir)
	})
}

// Exec runs a command in a container and returns what it prints. What it prints as
// errors is in the error, if it fails.
func (n *Node) Exec(ctx context.Context, namespace, pod, container string, command ...string) (string, error) {
	body, err := json.Marshal(execRequest{Namespace: namespace, Pod: pod, Container: container, Command: command})
	if err != nil {
		return "", err
	}
	what := fmt.Sprintf("running %q in %s/%s/%s", strings.Join(command, " "), namespace, pod, container)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node/exec", bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	res, err := n.control.Do(req)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer execAnswer
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if answer.Error != "" {
		return answer.Stdout, fmt.Errorf("%s: %s: %s", what, answer.Error, strings.TrimSpace(answer.Stderr))
	}
	return answer.Stdout, nil
}

// Log returns what a container printed, over all its restarts.
func (n *Node) Log(namespace, pod, container string) string {
	b, err := os.ReadFile(logFile(n.dir, namespace, pod, container))
	if err != nil {
		return ""
	}
	return string(b)
}

func logFile(dir, namespace, pod, container string) string {
	return filepath.Join(dir, "logs", namespace+"_"+pod+"_"+container+".log")
}

// log returns the last n lines of the node's own log.
func (n *Node) log(lines int) string {
	b, _ := os.ReadFile(filepath.Join(n.dir, "node.log"))
	return tail(string(b), lines)
}

// Logs returns the last n lines of the node's log and of each container's.
func (n *Node) Logs(lines int) string {
	var b strings.Builder
	b.WriteString("== node " + n.Name + "\n" + n.log(lines) + "\n")
	files, _ := filepath.Glob(filepath.Join(n.dir, "logs", "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		b.WriteString("== " + strings.TrimSuffix(filepath.Base(f), ".log") + "\n" + tail(string(text), lines) + "\n")
	}
	return b.String()
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
