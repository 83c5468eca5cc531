package store

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"meshc.dev/meshc/xds-server/internal/view"
)

// Protocol is one of the two forms of aggregated xDS.
type Protocol string

// The protocols.
const (
	// Delta sends differences, for Envoy.
	Delta Protocol = "delta"
	// World sends the whole state of a type, for gRPC.
	World Protocol = "sotw"
)

// Frame is a whole response apart from its nonce, shared by all streams that send it.
type Frame struct {
	body []byte
	// keeps is about what the frame's lists keep alive.
	keeps int
	// Version is what the response says as its version.
	Version string
}

// Size is the frame's length in bytes without its nonce.
func (f *Frame) Size() int { return len(f.body) }

type frameKey struct {
	protocol Protocol
	t        view.Type
	from, to *view.List
	stamp    string
}

// Field numbers of DeltaDiscoveryResponse and DiscoveryResponse.
const (
	fieldVersion   protowire.Number = 1
	fieldResources protowire.Number = 2
	fieldType      protowire.Number = 4
	fieldNonce     protowire.Number = 5
	fieldRemoved   protowire.Number = 6
)

// Frame encodes the step from one list to another: items are sent, removed are
// taken away (delta only). The lists name the step, so that equal steps of many
// streams are encoded once. stamp is a note behind the version of the whole list, and in
// delta, where a client gives back the versions of resources alone, of the first item.
func (s *Store) Frame(p Protocol, t view.Type, from, to *view.List, items []*view.Item, removed []string, stamp string) *Frame {
	return s.frames.Do(frameKey{p, t, from, to, stamp}, func() *Frame {
		f := &Frame{Version: Stamped(to.Version(), stamp), keeps: from.Bytes() + to.Bytes()}
		if p == Delta && len(items) > 0 {
			items = append([]*view.Item{s.Stamp(t, items[0], stamp)}, items[1:]...)
		}
		size := 128
		for _, it := range items {
			size += len(it.Body) + 8
		}
		f.body = appendField(make([]byte, 0, size), fieldVersion, f.Version)
		f.body = appendField(f.body, fieldType, t.URL())
		for _, it := range items {
			if p == World {
				f.body = append(f.body, anyField(it.Body)...)
				continue
			}
			f.body = appendField(f.body, fieldResources, it.Body)
		}
		if p == Delta {
			for _, n := range removed {
				f.body = appendField(f.body, fieldRemoved, n)
			}
		}
		return f
	})
}

// Message is a frame with the nonce of one stream: what SendMsg takes.
type Message struct {
	Frame *Frame
	Nonce string
}

// Codec is the registered protobuf codec, with a short way for a *Message. The
// order of fields is free on the wire, so the nonce follows the shared bytes.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*Message)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	nonce := appendField(make([]byte, 0, len(m.Nonce)+2), fieldNonce, m.Nonce)
	return mem.BufferSlice{mem.SliceBuffer(m.Frame.body), mem.SliceBuffer(nonce)}, nil
}
