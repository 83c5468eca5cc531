package space

import (
	"net/netip"
	"slices"
	"strings"
)

// Dimensions of addresses: that of the connection by which a request comes to its first proxy, the
// visitor's as a gateway of ours saw it, and that of the gateway's own connection to what is behind it. Their
// values are "" where the address is not known, else a digit for the family and the address bit by bit, so that a
// range is a prefix.
const (
	SourceDim Dim = "source"
	ClientDim Dim = "client"
	HopDim    Dim = "hop"
)

const (
	family4, family6 = "4", "6"
	bits4, bits6     = 32, 128
)

// addressBits is an address as a value, "" for what is none.
func addressBits(text string) string {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	a = a.Unmap()
	var b strings.Builder
	b.WriteString(family6)
	if a.Is4() {
		b.Reset()
		b.WriteString(family4)
	}
	for _, octet := range a.AsSlice() {
		for i := 7; i >= 0; i-- {
			b.WriteByte('0' + octet>>i&1)
		}
	}
	return b.String()
}

// rangeOf is the range whose addresses have values that begin so.
func rangeOf(bits string) (netip.Prefix, bool) {
	if bits == "" {
		return netip.Prefix{}, false
	}
	size := bits4
	if bits[:1] == family6 {
		size = bits6
	}
	octets := make([]byte, size/8)
	for i, bit := range bits[1:] {
		if bit == '1' && i < size {
			octets[i/8] |= 1 << (7 - i%8)
		}
	}
	a, ok := netip.AddrFromSlice(octets)
	return netip.PrefixFrom(a, len(bits)-1), ok
}

// AddressTest takes requests whose address is in one of the ranges, "10.2.0.0/16".
func AddressTest(d Dim, ranges []string) Test {
	t := Test{Dim: d}
	for _, r := range ranges {
		if p, err := netip.ParsePrefix(r); err == nil {
			t.Any = append(t.Any, Pattern{Prefix, addressBits(p.Addr().String())[:1+p.Bits()]})
		}
	}
	return t
}

// BehindGateway are tests of a proxy behind a gateway as those of the requests to the gateway: whoever is
// connected there is the gateway.
func BehindGateway(when []Test) []Test {
	if !slices.ContainsFunc(when, func(t Test) bool { return t.Dim == SourceDim }) {
		return when
	}
	out := slices.Clone(when)
	for i := range out {
		if out[i].Dim == SourceDim {
			out[i].Dim = HopDim
		}
	}
	return out
}

func addressDimension(d Dim, words string, of func(*Request) *string) Dimension {
	return Dimension{
		Name:   string(d),
		Values: func(q Request, _ string) []string { return one(addressBits(*of(&q))) },
		With: func(q Request, _, v string) Request {
			*of(&q) = ""
			if p, ok := rangeOf(v); ok {
				*of(&q) = p.Addr().String()
			}
			return q
		},
		Universe: fixed(`(?:4[01]{32}|6[01]{128})?`),
		Likely:   []string{""},
		Fixes:    func(q Request, _ string) bool { return *of(&q) != "" },
		Place:    Addition,
		Words: func(_ string, t Test) string {
			return not(t, words+" "+texts(Test{Any: t.Any}, func(p Pattern) string {
				r, _ := rangeOf(p.Text)
				if r.IsSingleIP() {
					return r.Addr().String()
				}
				return r.String()
			}))
		},
	}
}

//nolint:gochecknoglobals // constants that Go cannot express
var (
	source = addressDimension(SourceDim, "from address", func(q *Request) *string { return &q.Source })
	client = addressDimension(ClientDim, "for visitor", func(q *Request) *string { return &q.Client })
	hopped = addressDimension(HopDim, "by a gateway at", func(q *Request) *string { return &q.Hop })
)
