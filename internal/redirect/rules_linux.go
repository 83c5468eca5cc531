package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const tableName = "meshc"

// chain is a chain with its rules, as text for people and as the kernel's expressions.
type chain struct {
	name  string
	kind  nftables.ChainType
	hook  *nftables.ChainHook
	order nftables.ChainPriority
	rules []rule
}

type rule struct {
	text  string
	exprs []expr.Any
}

// table is everything that is set. Order matters: the first rule that fits decides.
func table(resolvers []netip.Addr) []chain {
	var in []rule
	for _, p := range openPorts() {
		in = append(in, with("tcp dport %d return", p)(tcp(), destinationPort(p), verdict(expr.VerdictReturn)))
	}
	in = append(in, with("tcp redirect to :%d", inboundPort)(tcp(), to(inboundPort)))

	v4, v6 := netip.MustParseAddr(sourceV4), netip.MustParseAddr(sourceV6)
	home4, home6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	out := []rule{
		// The sidecar to its application.
		with("oifname lo ip saddr %s return", v4)(loopback(expr.CmpOpEq), source(v4), verdict(expr.VerdictReturn)),
		with("oifname lo ip6 saddr %s return", v6)(loopback(expr.CmpOpEq), source(v6), verdict(expr.VerdictReturn)),
		// The sidecar to an address of its own pod: as from outside.
		with("oifname lo meta skuid %d ip daddr != 127.0.0.1 tcp redirect to :%d", ProxyID, inboundPort)(
			loopback(expr.CmpOpEq), owner(expr.MetaKeySKUID), destination(home4, expr.CmpOpNeq), tcp(), to(inboundPort)),
		with("oifname lo meta skuid %d ip6 daddr != ::1 tcp redirect to :%d", ProxyID, inboundPort)(
			loopback(expr.CmpOpEq), owner(expr.MetaKeySKUID), destination(home6, expr.CmpOpNeq), tcp(), to(inboundPort)),
		with("oifname lo return")(loopback(expr.CmpOpEq), verdict(expr.VerdictReturn)),
		with("meta skuid %d return", ProxyID)(owner(expr.MetaKeySKUID), verdict(expr.VerdictReturn)),
		with("meta skgid %d return", ProxyID)(owner(expr.MetaKeySKGID), verdict(expr.VerdictReturn)),
	}
	for _, r := range resolvers {
		out = append(out, with("ip daddr %s tcp dport 53 return", r)(destination(r, expr.CmpOpEq), tcp(), destinationPort(53), verdict(expr.VerdictReturn)))
	}
	out = append(out, with("tcp redirect to :%d", outboundPort)(tcp(), to(outboundPort)))
	// Whoever sends to a foreign address of this pod's by way of the sidecar gets nothing out.
	guard := []rule{
		with("oifname != lo ip saddr %s drop", v4)(loopback(expr.CmpOpNeq), source(v4), verdict(expr.VerdictDrop)),
		with("oifname != lo ip6 saddr %s drop", v6)(loopback(expr.CmpOpNeq), source(v6), verdict(expr.VerdictDrop)),
	}
	return []chain{
		{"in", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100, in},
		{"out", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100, out},
		{"guard", nftables.ChainTypeFilter, nftables.ChainHookOutput, 0, guard},
	}
}

// with gives a rule its text.
func with(format string, args ...any) func(parts ...[]expr.Any) rule {
	return func(parts ...[]expr.Any) rule {
		r := rule{text: fmt.Sprintf(format, args...)}
		for _, p := range parts {
			r.exprs = append(r.exprs, p...)
		}
		return r
	}
}

func tcp() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}}}
}

func destinationPort(p uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p)},
	}
}

func loopback(op expr.CmpOp) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: name}}
}

func owner(key expr.MetaKey) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(ProxyID)}}
}

// Offsets of source and destination in the two headers.
func source(ip netip.Addr) []expr.Any {
	if ip.Is4() {
		return address(ip, 12, expr.CmpOpEq)
	}
	return address(ip, 8, expr.CmpOpEq)
}

func destination(ip netip.Addr, op expr.CmpOp) []expr.Any {
	if ip.Is4() {
		return address(ip, 16, op)
	}
	return address(ip, 24, op)
}

func address(ip netip.Addr, offset uint32, op expr.CmpOp) []expr.Any {
	family := byte(unix.NFPROTO_IPV6)
	if ip.Is4() {
		family = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(ip.AsSlice()))},
		&expr.Cmp{Op: op, Register: 1, Data: ip.AsSlice()},
	}
}

func to(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
		// As the kernel tells them: a range of one, and the flag that says so.
		&expr.Redir{RegisterProtoMin: 1, RegisterProtoMax: 1, Flags: expr.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }

// Set lays the rules, in place of those that stand, and reads them back. It needs
// NET_ADMIN.
func Set() error {
	dns, err := resolvers()
	if err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return problem("the kernel's packet filter cannot be reached: %v", err)
	}
	t := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	c.AddTable(t)
	accept := nftables.ChainPolicyAccept
	for _, ch := range table(dns) {
		order := ch.order
		added := c.AddChain(&nftables.Chain{Name: ch.name, Table: t, Type: ch.kind, Hooknum: ch.hook, Priority: &order, Policy: &accept})
		for _, r := range ch.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: added, Exprs: r.exprs})
		}
	}
	if err := c.Flush(); err != nil {
		return problem("the rules cannot be laid: %v", err)
	}
	if err := addSource(); err != nil {
		return err
	}
	return Check()
}

// Check reads the rules back and compares them with what they have to be. It needs
// NET_ADMIN.
func Check() error {
	dns, err := resolvers()
	if err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return problem("the kernel's packet filter cannot be reached: %v", err)
	}
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return problem("the rules cannot be read: %v", err)
	}
	stand := map[string]*nftables.Chain{}
	for _, ch := range all {
		if ch.Table.Name == tableName {
			stand[ch.Name] = ch
		}
	}
	for _, want := range table(dns) {
		got := stand[want.name]
		if got == nil {
			return problem("chain %q of table %q is missing", want.name, tableName)
		}
		delete(stand, want.name)
		if err := want.check(c, got); err != nil {
			return err
		}
	}
	for name := range stand {
		return problem("table %q has a chain %q that is not ours", tableName, name)
	}
	return checkSource()
}

func (want chain) check(c *nftables.Conn, got *nftables.Chain) error {
	if got.Type != want.kind || got.Hooknum == nil || *got.Hooknum != *want.hook || got.Priority == nil || *got.Priority != want.order ||
		got.Policy == nil || *got.Policy != nftables.ChainPolicyAccept {
		return problem("chain %q of table %q does not stand where it has to", want.name, tableName)
	}
	rules, err := c.GetRules(got.Table, got)
	if err != nil {
		return problem("the rules of chain %q cannot be read: %v", want.name, err)
	}
	if len(rules) != len(want.rules) {
		return problem("chain %q of table %q has %d rules, not %d", want.name, tableName, len(rules), len(want.rules))
	}
	for i, r := range want.rules {
		if !reflect.DeepEqual(rules[i].Exprs, r.exprs) {
			return problem("rule %d of chain %q of table %q is not %q", i+1, want.name, tableName, r.text)
		}
	}
	return nil
}

// noIPv6 reports whether the loopback has IPv6 switched off, so that nothing can come
// or go by it.
func noIPv6() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// addSource gives the loopback the sidecar's IPv6 source. Of IPv4 it has all of 127/8.
func addSource() error {
	if checkSource() == nil {
		return nil
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return problem("there is no loopback: %v", err)
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return problem("the kernel's addresses cannot be reached: %v", err)
	}
	defer c.Close()
	ip := netip.MustParseAddr(sourceV6).AsSlice()
	lives := make([]byte, 16) // preferred for no time: nobody gets it who did not ask; valid for ever
	binary.NativeEndian.PutUint32(lives[4:], math.MaxUint32)
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.IFA_LOCAL, Data: ip}, {Type: unix.IFA_ADDRESS, Data: ip}, {Type: unix.IFA_CACHEINFO, Data: lives},
	})
	if err != nil {
		return problem("%v", err)
	}
	header := make([]byte, unix.SizeofIfAddrmsg) // family, prefix, flags, scope, index
	header[0], header[1], header[2] = unix.AF_INET6, 128, unix.IFA_F_NODAD
	binary.NativeEndian.PutUint32(header[4:], uint32(lo.Index))
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWADDR, Flags: netlink.Request | netlink.Acknowledge | netlink.Create},
		Data:   append(header, attrs...),
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return problem("address %s cannot be given to the loopback: %v", sourceV6, err)
	}
	return nil
}

func checkSource() error {
	if noIPv6() {
		return nil
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return problem("there is no loopback: %v", err)
	}
	addrs, err := lo.Addrs()
	if err != nil {
		return problem("the loopback's addresses cannot be read: %v", err)
	}
	for _, a := range addrs {
		if a.String() == sourceV6+"/128" {
			return nil
		}
	}
	return problem("the loopback does not have the address %s", sourceV6)
}
