package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/programs"
)

// budget is what one agent may keep resident when idle, in KiB.
const budget = 25 << 10

// bulk begins every stream with 8 MiB and is silent afterwards.
type bulk struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
}

func (bulk) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if _, err := ca.PeerFromContext(s.Context()); err != nil {
		return ca.StatusOf(err)
	}
	out := &discoveryv3.DeltaDiscoveryResponse{}
	for i := range 8 {
		out.Resources = append(out.Resources, &discoveryv3.Resource{Name: fmt.Sprint(i), Resource: &anypb.Any{Value: bytes.Repeat([]byte{'x'}, 1<<20)}})
	}
	if err := s.Send(out); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

// command is the real binary for an agent that may join once, not started yet;
// its state folder, and what it prints.
func command(t *testing.T, args ...string) (cmd *exec.Cmd, state string, log *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	a, err := ca.Open(t.Context(), dir, ca.Options{TrustDomain: "mesh.local", Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := ca.OpenTokens(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Identity{Namespace: "shop", Account: "web"}.SPIFFE(a.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	token, err := tokens.Create(t.Context(), id, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(a.TLSConfig(ca.Requested))))
	ca.NewService(a, tokens, nil, slog.New(slog.DiscardHandler)).Register(server)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, bulk{})
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Stop)

	bin := filepath.Join(dir, "meshc-agent")
	if err := programs.Into(t.Context(), dir, "meshc-agent"); err != nil {
		t.Fatal(err)
	}
	if state, err = os.MkdirTemp("", "ma"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	log = &bytes.Buffer{}
	cmd = exec.Command(bin, append([]string{"--server", lis.Addr().String(), "--join-token", token,
		"--server-fingerprint", a.Fingerprints()[0], "--state", state}, args...)...)
	cmd.Stderr = log
	return cmd, state, log
}

// The real binary, after a join, with an open ADS stream over which a large
// configuration has passed and an open SDS stream.
func TestIdleMemory(t *testing.T) {
	cmd, state, log := command(t, "--no-envoy")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	use(t, state)
	// The agent gives memory back after a few seconds without work.
	least := 1 << 30
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && least > budget; time.Sleep(200 * time.Millisecond) {
		least = min(least, resident(t, cmd.Process.Pid))
	}
	t.Logf("resident: %d KiB", least)
	if least > budget {
		t.Errorf("more than %d KiB", budget)
	}
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
}

// An agent that is killed leaves no Envoy behind, and the sockets it leaves
// behind do not keep the next one from starting.
func TestKilledAgentTakesItsEnvoyAlong(t *testing.T) {
	bin, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	first, state, log := command(t, "--envoy-path", bin.Path, "--drain", "0s", "--", "--concurrency", "1", "-l", "warning")
	second := exec.Command(first.Path, first.Args[1:]...) // the token is spent, and not needed
	second.Stderr = log
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Process.Kill() }()
	waitAdmin(t, state, true)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // "signal: killed", and after the end of Envoy, which holds stderr
	waitAdmin(t, state, false)
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Process.Kill() }()
	waitAdmin(t, state, true)
	if err := errors.Join(second.Process.Signal(syscall.SIGTERM), second.Wait()); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
	waitAdmin(t, state, false)
}

// waitAdmin waits until Envoy's admin socket answers, or no longer does.
func waitAdmin(t *testing.T, state string, up bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("unix", filepath.Join(state, "admin.sock"))
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) == up {
			return
		}
	}
	t.Fatalf("Envoy's admin socket: answering should be %v", up)
}

// use opens an ADS and an SDS stream and leaves them open until the test ends.
func use(t *testing.T, state string) {
	t.Helper()
	dial := func(name string) *grpc.ClientConn {
		c, err := grpc.NewClient("unix://"+filepath.Join(state, name), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	secrets, err := secretv3.NewSecretDiscoveryServiceClient(dial("sds.sock")).DeltaSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := secrets.Send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"default", "ROOTCA"}}); err != nil {
		t.Fatal(err)
	}
	if m, err := secrets.Recv(); err != nil || len(m.GetResources()) != 2 {
		t.Fatalf("%v %v", m, err)
	}
	client := discoveryv3.NewAggregatedDiscoveryServiceClient(dial("ads.sock"))
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ads, err := client.DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m, err := ads.Recv(); err == nil && len(m.GetResources()) == 8 {
			return
		}
	}
	t.Fatal("no configuration")
}

func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
