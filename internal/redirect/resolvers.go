package redirect

import (
	"net/netip"
	"os"
	"strings"
)

// resolvers are the nameservers of this pod, each once. Answers that do not fit into a
// datagram come over TCP, from them alone.
func resolvers() ([]netip.Addr, error) {
	b, err := os.ReadFile("/etc/resolv.conf")
	switch {
	case os.IsNotExist(err):
		return nil, nil
	case err != nil:
		return nil, problem("the pod's nameservers cannot be read: %v", err)
	}
	return nameservers(string(b)), nil
}

// nameservers reads resolv.conf(5). A resolver on the loopback needs no rule.
func nameservers(text string) []netip.Addr {
	var out []netip.Addr
	seen := map[netip.Addr]bool{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		ip, err := netip.ParseAddr(words[1])
		if ip = ip.WithZone("").Unmap(); err == nil && !ip.IsLoopback() && !seen[ip] {
			seen[ip] = true
			out = append(out, ip)
		}
	}
	return out
}
