package store

import (
	"bytes"
	"crypto/sha256"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// host is a virtual host on the wire, without its tag. A route table that changes is
// decoded again only in those virtual hosts that changed.
type host struct {
	body []byte
	err  error
}

type hostKey [sha256.Size]byte

const (
	// hostBytes bounds what remembered virtual hosts keep alive.
	hostBytes    = 16 << 20
	hostOverhead = 256
)

func (h *host) bytes() int { return len(h.body) + hostOverhead }

// host decodes the JSON of a virtual host.
func (s *Store) host(text []byte) *host {
	return s.hosts.Do(sha256.Sum256(text), func() *host {
		var vh routev3.VirtualHost
		if err := protojson.Unmarshal(text, &vh); err != nil {
			return &host{err: err}
		}
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(&vh)
		return &host{body, err}
	})
}

// Field numbers of envoy.config.route.v3.RouteConfiguration.
const (
	tableName protowire.Number = 1
	tableHost protowire.Number = 2
)

// table encodes the canonical JSON of a route table, to the same bytes as decoding it as
// a whole. It reports false if the text has another form, or is no route table.
func (s *Store) table(raw []byte, digest string) (value []byte, name string, ok bool) {
	hosts, rest, ok := splitTable(raw, digest)
	if !ok {
		return nil, "", false
	}
	var rc routev3.RouteConfiguration
	if protojson.Unmarshal(rest, &rc) != nil {
		return nil, "", false
	}
	if vhs := rc.GetVirtualHosts(); len(vhs) != 1 || vhs[0].GetName() != digest {
		return nil, "", false // what was split is something else
	}
	name = rc.GetName()
	value = appendField(make([]byte, 0, len(raw)/2), tableName, name)
	rc.Name, rc.VirtualHosts = "", nil
	for _, text := range hosts {
		h := s.host(text)
		if h.err != nil {
			return nil, "", false
		}
		value = appendField(value, tableHost, h.body)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(value, &rc)
	return value, name, err == nil
}

// splitTable takes the virtual hosts out of a table's JSON, and puts a single one there
// that is called mark, which the text does not have: whoever reads the rest sees whether
// that is where virtual hosts are.
func splitTable(raw []byte, mark string) (hosts [][]byte, rest []byte, ok bool) {
	// How canonical JSON writes them. A string has no line break, so that nothing else
	// looks like that in canonical JSON.
	const hostsBegin, hostBegin, hostEnd, hostsEnd = "\n  \"virtual_hosts\": [\n", "    {\n", "\n    }", "\n  ]"
	before, list, ok := bytes.Cut(raw, []byte(hostsBegin))
	if !ok {
		return nil, nil, false
	}
	for bytes.HasPrefix(list, []byte(hostBegin)) {
		end := bytes.Index(list, []byte(hostEnd))
		if end < 0 {
			return nil, nil, false
		}
		end += len(hostEnd)
		hosts = append(hosts, list[:end])
		var more bool
		if list, more = bytes.CutPrefix(list[end:], []byte(",\n")); !more {
			break
		}
	}
	if !bytes.HasPrefix(list, []byte(hostsEnd)) || len(hosts) == 0 {
		return nil, nil, false
	}
	return hosts, slices.Concat(before, []byte(hostsBegin+`{"name": "`+mark+`"}`), list), true
}
