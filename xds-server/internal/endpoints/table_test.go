package endpoints

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/release"
)

func at(s string) Address { return Address{Addr: netip.MustParseAddrPort(s)} }

func TestAddressesAreChecked(t *testing.T) {
	many := make([]Address, MaxAddresses+1)
	for i := range many {
		many[i] = at(fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&255, i&255))
	}
	for want, list := range map[string][]Address{
		"not an IP address":   {{}},
		"with a port":         {at("10.0.0.1:0")},
		"zone":                {at("[fe80::1%eth0]:80")},
		"none of healthy":     {{Addr: at("10.0.0.1:80").Addr, Health: "ill"}},
		"weight 129":          {{Addr: at("10.0.0.1:80").Addr, Weight: 129}},
		"priority 16":         {{Addr: at("10.0.0.1:80").Addr, Priority: 16}},
		"there twice":         {at("10.0.0.1:80"), at("10.0.0.2:80"), at("10.0.0.1:80")},
		"10001 addresses, at": many,
	} {
		if _, err := NewAddresses(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := NewAddresses(many[1:]); err != nil {
		t.Error(err)
	}
}

// The digest says whether two lists mean the same, in whatever order they came.
func TestDigestFollowsTheContentOnly(t *testing.T) {
	address := rapid.Custom(func(t *rapid.T) Address {
		return Address{
			Addr:     netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "ip")}), rapid.Uint16Range(1, 3).Draw(t, "port")),
			Health:   rapid.SampledFrom([]Health{"", Healthy, Unhealthy, Draining}).Draw(t, "health"),
			Priority: rapid.Uint32Range(0, 1).Draw(t, "priority"),
			Weight:   rapid.Uint32Range(0, 2).Draw(t, "weight"),
			Zone:     rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "zone"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfNDistinct(address, 1, 6, func(a Address) netip.AddrPort { return a.Addr }).Draw(t, "list")
		one, err := NewAddresses(list)
		if err != nil {
			t.Fatal(err)
		}
		shuffled := rapid.Permutation(list).Draw(t, "shuffled")
		same, err := NewAddresses(shuffled)
		if err != nil || same.Digest() != one.Digest() {
			t.Fatalf("shuffled: %v, %s and %s", err, one.Digest(), same.Digest())
		}
		changed := slices.Clone(list)
		i := rapid.IntRange(0, len(list)-1).Draw(t, "i")
		changed[i] = address.Draw(t, "other")
		other, err := NewAddresses(changed)
		if err != nil {
			return // there twice now
		}
		meant := func(a Address) Address { a.Weight = max(a.Weight, 1); return a }
		if (meant(list[i]) == meant(changed[i])) != (one.Digest() == other.Digest()) {
			t.Fatalf("%v and %v: %s and %s", list[i], changed[i], one.Digest(), other.Digest())
		}
	})
}

func TestTableNeverChangesAndForgetsNothing(t *testing.T) {
	must := func(list ...Address) Addresses {
		a, err := NewAddresses(list)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	k, l := Key{File: "reviews"}, Key{DNS: "ratings.example:80"}
	var empty Table
	one, changed := empty.With(Change{Key: k, Addresses: must(at("10.0.0.1:80"))})
	if _, known := empty.Find(k); known || len(changed) != 1 || one.Len() != 1 {
		t.Fatalf("%v, %v, %v", known, changed, one)
	}
	if _, changed = one.With(Change{Key: k, Addresses: must(at("10.0.0.1:80"))}); changed != nil {
		t.Errorf("the same content is a change: %v", changed)
	}
	if same, changed := one.With(Change{Key: k, Gone: true}); changed != nil || same.Len() != 1 {
		t.Errorf("what is gone loses its content: %v", changed)
	}
	none, changed := one.With(Change{Key: k, Addresses: must()}, Change{Key: l, Addresses: must(at("10.0.0.2:80"))})
	if a, known := none.Find(k); !known || a.Len() != 0 || len(changed) != 2 {
		t.Errorf("no addresses on purpose: %v, %v, %v", a, known, changed)
	}
	if a, _ := one.Find(k); a.Len() != 1 {
		t.Error("the older table has changed")
	}
	// Two changes of one key in a row: the last one counts.
	last, _ := empty.With(Change{Key: k, Addresses: must(at("10.0.0.1:80"))}, Change{Key: k, Addresses: must(at("10.0.0.9:80"))})
	if a, _ := last.Find(k); slices.Collect(a.All())[0] != at("10.0.0.9:80") {
		t.Errorf("got %v", a)
	}
}

// Of one priority those that are near come before the others, and a standby stays behind wherever it is.
func TestAddressesFromAPlace(t *testing.T) {
	in := func(addr, region, zone string, priority uint32) Address {
		return Address{Addr: netip.MustParseAddrPort(addr), Region: region, Zone: zone, Priority: priority}
	}
	all, err := NewAddresses([]Address{in("10.0.0.1:80", "r", "a", 0), in("10.0.0.2:80", "r", "b", 0), in("10.0.0.3:80", "s", "c", 0), in("10.0.0.4:80", "r", "a", 3), in("10.0.0.5:80", "", "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	rule := &release.Locality{Prefer: "zone", Failover: map[string]map[string]int{"c": {"b": 1, "a": 1}}}
	for here, want := range map[release.Place][]uint32{
		{Region: "r", Zone: "a"}: {0, 1, 2, 3, 2},
		{Region: "r", Zone: "b"}: {1, 0, 2, 3, 2},
		{Region: "s", Zone: "c"}: {1, 1, 0, 3, 2},
		{Region: "s", Zone: "x"}: {1, 1, 0, 2, 1},
		{}:                       {0, 0, 0, 1, 0},
	} {
		var got []uint32
		for a := range all.From(here, rule).All() {
			got = append(got, a.Priority)
		}
		if !slices.Equal(got, want) {
			t.Errorf("from %+v: %v, want %v", here, got, want)
		}
	}
	if all.From(release.Place{Zone: "a"}, rule).Digest() == all.From(release.Place{Zone: "b"}, rule).Digest() {
		t.Error("the digest does not follow the order")
	}
}
