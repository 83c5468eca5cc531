package store

import (
	"errors"
	"fmt"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// fieldKnown is DeltaDiscoveryRequest.initial_resource_versions, whose entries have
// a name and a version.
const (
	fieldKnown   protowire.Number = 5
	entryName    protowire.Number = 1
	entryVersion protowire.Number = 2
)

// Unmarshal implements encoding.CodecV2. When all proxies come back at once, each
// names the versions of all that it has, and making a map by reflection is most of
// what its requests cost: that one field is read by hand, with the same result.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*discoveryv3.DeltaDiscoveryRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	rest, known, err := splitKnown(buf.ReadOnlyData())
	if err == nil {
		err = proto.Unmarshal(rest, m)
	}
	if err != nil {
		return fmt.Errorf("reading a request: %w", err)
	}
	m.InitialResourceVersions = known
	return nil
}

// splitKnown takes the known versions out of an encoded request; known is nil if it
// has none. Their texts are parts of one string, not of b.
func splitKnown(b []byte) (rest []byte, known map[string]string, err error) {
	count := 0
	err = eachField(b, func(n protowire.Number, typ protowire.Type, _, _, _ int) error {
		if n == fieldKnown && typ == protowire.BytesType {
			count++
		}
		return nil
	})
	if err != nil || count == 0 {
		return b, nil, err
	}
	known = make(map[string]string, count)
	text := string(b)
	err = eachField(b, func(n protowire.Number, typ protowire.Type, start, value, end int) error {
		if n != fieldKnown || typ != protowire.BytesType {
			rest = append(rest, b[start:end]...)
			return nil
		}
		name, version, err := entry(b[value:end], text[value:end])
		known[name] = version
		return err
	})
	return rest, known, err
}

var errText = errors.New("a name or version is no UTF-8")

// entry reads one entry of the map; text is the same as b. Of a field that is there
// twice the last counts.
func entry(b []byte, text string) (name, version string, err error) {
	err = eachField(b, func(n protowire.Number, typ protowire.Type, _, value, end int) error {
		if typ != protowire.BytesType || n != entryName && n != entryVersion {
			return nil
		}
		if !utf8.Valid(b[value:end]) {
			return errText
		}
		if n == entryName {
			name = text[value:end]
		} else {
			version = text[value:end]
		}
		return nil
	})
	return name, version, err
}

// eachField calls f with where each field begins, where its value does (after the
// length, if it has one), and where it ends.
func eachField(b []byte, f func(n protowire.Number, typ protowire.Type, start, value, end int) error) error {
	for at := 0; at < len(b); {
		n, typ, tag := protowire.ConsumeTag(b[at:])
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(n, typ, b[at+tag:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		value, end := at+tag, at+tag+size
		if typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[value:])
			value = end - len(v)
		}
		if err := f(n, typ, at, value, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}
