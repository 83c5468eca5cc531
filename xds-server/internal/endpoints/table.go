// Package endpoints holds live addresses as immutable values.
//
// In: changes from sources, each naming what its addresses are the content of (a
// file, a DNS name, a cluster). Out: Tables. A Table says for each key which addresses it
// has now; a key that it does not have is unknown, which is not the same as
// having no addresses: nothing is taken from a proxy because a source is silent.
package endpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/release"
)

// Key names a source's entry. Exactly one field is set.
type Key struct {
	// File is the name of an endpoint file without its extension.
	File string
	// DNS is "host:port".
	DNS string
	// Cluster is the name of an EDS cluster whose addresses are discovered.
	Cluster string
}

// KeyOf is the source of a live cluster's addresses.
func KeyOf(e release.Endpoints) Key {
	if e.File == "" && e.DNS == "" {
		return Key{Cluster: e.Cluster}
	}
	return Key{File: e.File, DNS: e.DNS}
}

// String gives "file:name", "dns:host:port" or "kubernetes:cluster".
func (k Key) String() string {
	switch {
	case k.File != "":
		return "file:" + k.File
	case k.Cluster != "":
		return "kubernetes:" + k.Cluster
	}
	return "dns:" + k.DNS
}

// Health is what a source knows about an address.
type Health string

// The states of an address. The zero Health means unknown, which counts as usable.
const (
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
	Draining  Health = "draining"
)

// Address is one endpoint.
type Address struct {
	// Addr is an IP address and a port.
	Addr netip.AddrPort
	// Health is "" if unknown.
	Health Health
	// Priority counts from 0, the first choice. Gaps mean nothing.
	Priority uint32
	// Weight is relative, 1 to 128; 0 means 1.
	Weight uint32
	// Region, Zone and SubZone are where the endpoint is; "" if unknown.
	Region, Zone, SubZone string
}

// MaxWeight is the largest weight of an address, and MaxPriority the last choice
// (Envoy wants priorities without gaps; 0 to 15 is plenty).
const (
	MaxWeight   = 128
	MaxPriority = 15
)

func (a Address) line() string {
	return a.Addr.String() + " " + string(a.Health) + " " + strconv.FormatUint(uint64(a.Priority), 10) + " " +
		strconv.FormatUint(uint64(max(a.Weight, 1)), 10) + " " + strconv.Quote(a.Region) + strconv.Quote(a.Zone) + strconv.Quote(a.SubZone) + "\n"
}

func (a Address) check() error {
	switch {
	case !a.Addr.IsValid() || a.Addr.Port() == 0:
		return fmt.Errorf("address %q is not an IP address with a port", a.Addr)
	case a.Addr.Addr().Zone() != "":
		return fmt.Errorf("address %q has a zone", a.Addr)
	case a.Health != "" && a.Health != Healthy && a.Health != Unhealthy && a.Health != Draining:
		return fmt.Errorf("address %s: health %q is none of healthy, unhealthy, draining", a.Addr, a.Health)
	case a.Weight > MaxWeight:
		return fmt.Errorf("address %s: weight %d is above %d", a.Addr, a.Weight, MaxWeight)
	case a.Priority > MaxPriority:
		return fmt.Errorf("address %s: priority %d is above %d", a.Addr, a.Priority, MaxPriority)
	}
	return nil
}

// Addresses is the content of one key: an immutable, sorted list.
type Addresses struct {
	list   []Address
	digest string
}

// MaxAddresses is how many addresses one key may have.
const MaxAddresses = 10_000

// NewAddresses checks, sorts and freezes a list. One address may be there once.
func NewAddresses(list []Address) (Addresses, error) {
	if len(list) > MaxAddresses {
		return Addresses{}, fmt.Errorf("%d addresses, at most %d", len(list), MaxAddresses)
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Address) int { return a.Addr.Compare(b.Addr) })
	h := sha256.New()
	for i, a := range list {
		if err := a.check(); err != nil {
			return Addresses{}, err
		}
		if i > 0 && list[i-1].Addr == a.Addr {
			return Addresses{}, fmt.Errorf("address %s is there twice", a.Addr)
		}
		h.Write([]byte(a.line()))
	}
	return Addresses{list: list, digest: hex.EncodeToString(h.Sum(nil))}, nil
}

// From gives the addresses as a proxy there is to take them: those of one priority that differ
// by the rule's ranks become several. A standby stays one wherever it is.
func (a Addresses) From(here release.Place, rule *release.Locality) Addresses {
	const ranks = release.MaxRank + 2
	var used [(MaxPriority + 1) * ranks]bool
	order := make([]int, len(a.list))
	for i, ad := range a.list {
		order[i] = int(ad.Priority)*ranks + rule.Rank(here, ad.place())
		used[order[i]] = true
	}
	var priority [len(used)]uint32 // of each that is used, without gaps
	next := uint32(0)
	for i, u := range used {
		if u {
			priority[i] = next
			next++
		}
	}
	list := slices.Clone(a.list)
	h := sha256.New()
	for i := range list {
		list[i].Priority = priority[order[i]]
		h.Write([]byte(list[i].line()))
	}
	return Addresses{list: list, digest: hex.EncodeToString(h.Sum(nil))}
}

func (a Address) place() release.Place { return release.Place{Region: a.Region, Zone: a.Zone} }

// Len is the number of addresses.
func (a Addresses) Len() int { return len(a.list) }

// Of gives the addresses that a release itself has.
func Of(ws []release.Workload) (Addresses, error) {
	list := make([]Address, 0, len(ws))
	for _, w := range ws {
		at, err := netip.ParseAddrPort(w.Address)
		if err != nil {
			return Addresses{}, err
		}
		list = append(list, Address{Addr: at, Weight: w.Weight, Region: w.Region, Zone: w.Zone})
	}
	return NewAddresses(list)
}

// All yields the addresses in order.
func (a Addresses) All() iter.Seq[Address] { return slices.Values(a.list) }

// Digest is the SHA-256 (64 hexadecimal characters) of the content, the same on
// every machine; "" for the zero Addresses.
func (a Addresses) Digest() string { return a.digest }

// Change is new content of one key.
type Change struct {
	Key Key
	// Addresses is the new content.
	Addresses Addresses
	// Gone says that the source no longer knows the key; Addresses is zero then.
	Gone bool
}

// Table is the content of all keys. It never changes; the zero Table is empty.
type Table struct{ byKey map[Key]Addresses }

// Find returns the content of a key. False means unknown.
func (t Table) Find(k Key) (Addresses, bool) {
	a, ok := t.byKey[k]
	return a, ok
}

// Len is the number of known keys.
func (t Table) Len() int { return len(t.byKey) }

// Keys yields the known keys in no order.
func (t Table) Keys() iter.Seq[Key] { return maps.Keys(t.byKey) }

// With returns a table with the changes made, and the keys whose content is now
// different. A key that is gone keeps its last content: see the package comment.
func (t Table) With(changes ...Change) (Table, []Key) {
	var out map[Key]Addresses
	var keys []Key
	for _, c := range changes {
		from := t.byKey
		if out != nil {
			from = out
		}
		if old, ok := from[c.Key]; c.Gone || ok && old.digest == c.Addresses.digest {
			continue
		}
		if out == nil {
			out = make(map[Key]Addresses, len(t.byKey)+len(changes))
			maps.Copy(out, t.byKey)
		}
		out[c.Key] = c.Addresses
		keys = append(keys, c.Key)
	}
	if out == nil {
		return t, nil
	}
	return Table{out}, keys
}

// Problem is why a source cannot give an entry's content. What it gave before stays.
type Problem struct {
	Key Key
	// Path is the file's path, "" for a name.
	Path string
	Err  error
}

// Sink takes what a source found. It is not called by two goroutines of one
// source at a time.
type Sink func(changes []Change, problems []Problem)
