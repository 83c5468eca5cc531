package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"

	"meshc.dev/meshc/internal/kubetest"
)

// network is the addresses of one node: 10.231.N.0/24 and fd00:6d65:7368:N::/64, by N.
// Pods are routed, each over a link of its own: what goes from one to another or to a
// Service passes the node, as it does in a cluster, where the Service's rules are.
type network int

const (
	nodeHost    = 1 // its last number
	machineHost = 254
	firstPod    = 2
	lastPod     = 253
)

func (n network) v4(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 231, byte(n), byte(host)})
}

func (n network) v6(host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 2: 'm', 3: 'e', 4: 's', 5: 'h', 7: byte(n), 15: byte(host)})
}

// script is what ip(8) is told, a command a line.
type script strings.Builder

func (s *script) add(format string, args ...any) {
	_, _ = fmt.Fprintf((*strings.Builder)(s), format+"\n", args...)
}

// run runs the script, in the network namespace of a process; 0 = in ours.
func (s *script) run(ctx context.Context, pid int) error {
	argv := []string{"ip", "-batch", "-"}
	if pid != 0 {
		argv = append([]string{"nsenter", "--net=/proc/" + strconv.Itoa(pid) + "/ns/net", "--"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader((*strings.Builder)(s).String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// plugIn links the machine with the node process and takes a network that nobody else on
// this machine has: the link's name is taken with it, at one time.
func plugIn(ctx context.Context, pid int) (network, error) {
	for n := network(0); n < 256; n++ {
		var link script
		link.add("link add meshc%d type veth peer name machine netns %d", n, pid)
		err := link.run(ctx, 0)
		if err != nil && strings.Contains(err.Error(), "File exists") {
			continue
		}
		if err != nil {
			return 0, err
		}
		var s script
		s.add("addr add %s peer %s dev meshc%d", n.v4(machineHost), n.v4(nodeHost), n)
		s.add("addr add %s/128 dev meshc%d nodad", n.v6(machineHost), n)
		s.add("link set meshc%d up", n)
		s.add("route add %s/128 dev meshc%d", n.v6(nodeHost), n) // a peer's would be lost when the other side comes up
		// The other side is not up yet: the kernel has to be told that the way is direct.
		s.add("route add %s via %s dev meshc%d onlink", netip.PrefixFrom(n.v4(0), 24), n.v4(nodeHost), n)
		s.add("route add %s via %s dev meshc%d onlink", netip.PrefixFrom(n.v6(0), 64), n.v6(nodeHost), n)
		return n, s.run(ctx, 0)
	}
	return 0, errors.New("256 nodes run on this machine: stop some")
}

// plugged sets the node's side up.
func (n network) plugged(ctx context.Context) error {
	var s script
	s.add("link set lo up")
	s.add("addr add %s peer %s dev machine", n.v4(nodeHost), n.v4(machineHost))
	s.add("addr add %s/128 dev machine nodad", n.v6(nodeHost))
	s.add("link set machine up")
	s.add("route add %s/128 dev machine", n.v6(machineHost))
	// Of Services that have no endpoints.
	s.add("route add unreachable %s", kubetest.ServiceCIDR)
	s.add("route add unreachable %s", kubetest.ServiceCIDRv6)
	return s.run(ctx, 0)
}

// connect gives the pod number i, whose network namespace is that of pid, a link and its
// addresses.
func (n network) connect(ctx context.Context, i, pid int) error {
	var outside, inside script
	outside.add("link add pod%d type veth peer name eth0 netns %d", i, pid)
	outside.add("addr add %s/32 dev pod%d", n.v4(nodeHost), i)
	outside.add("addr add %s/128 dev pod%d nodad", n.v6(nodeHost), i)
	outside.add("link set pod%d up", i)
	outside.add("route add %s/32 dev pod%d", n.v4(i), i)
	outside.add("route add %s/128 dev pod%d", n.v6(i), i)
	if err := outside.run(ctx, 0); err != nil {
		return err
	}
	inside.add("link set lo up")
	inside.add("addr add %s/32 dev eth0", n.v4(i))
	inside.add("addr add %s/128 dev eth0 nodad", n.v6(i))
	inside.add("link set eth0 up")
	inside.add("route add default via %s dev eth0 onlink", n.v4(nodeHost))
	inside.add("route add default via %s dev eth0 onlink", n.v6(nodeHost))
	return inside.run(ctx, pid)
}

// disconnect is for pods that end before the node.
func (n network) disconnect(ctx context.Context, i int) {
	var s script
	s.add("link del pod%d", i)
	_ = s.run(ctx, 0) // it goes with the last process of the pod
}

// publish makes the API server the endpoint of its own Service, at the address by which
// the pods of the last node that started reach it.
func publish(ctx context.Context, c *kubetest.Cluster, at netip.AddrPort) error {
	return c.Apply(ctx, fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [%s], conditions: {ready: true}}]
ports: [{name: https, protocol: TCP, port: %d}]
`, at.Addr(), at.Port()))
}
