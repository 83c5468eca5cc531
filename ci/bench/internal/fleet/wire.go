package fleet

import (
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// codec carries requests and responses as bytes, so that the clients cost little
// beside the servers that are measured.
type codec struct{ up, down *atomic.Int64 }

// Name implements encoding.CodecV2.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("sending a %T", v)
	}
	c.up.Add(int64(len(b)))
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(b mem.BufferSlice, v any) error {
	r, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("receiving a %T", v)
	}
	*r = b.Materialize()
	c.down.Add(int64(len(*r)))
	return nil
}

// response is what a client needs of a DeltaDiscoveryResponse.
type response struct {
	typ, nonce string
	resources  []resource
	removed    []string
}

type resource struct {
	name, version string
	body          []byte // the Any, unread
}

// fields calls f for every field of length-delimited bytes.
func fields(b []byte, f func(n protowire.Number, v []byte)) error {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		if typ != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(n, typ, b); size < 0 {
				return protowire.ParseError(size)
			}
			b = b[size:]
			continue
		}
		v, size := protowire.ConsumeBytes(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		f(n, v)
		b = b[size:]
	}
	return nil
}

func parse(b []byte) (response, error) {
	var r response
	var inner error
	err := fields(b, func(n protowire.Number, v []byte) {
		switch n {
		case 2:
			var res resource
			if err := fields(v, func(n protowire.Number, v []byte) {
				switch n {
				case 1:
					res.version = string(v)
				case 2:
					res.body = v
				case 3:
					res.name = string(v)
				}
			}); err != nil {
				inner = err
			}
			r.resources = append(r.resources, res)
		case 4:
			r.typ = string(v)
		case 5:
			r.nonce = string(v)
		case 6:
			r.removed = append(r.removed, string(v))
		}
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return r, fmt.Errorf("reading a response: %w", err)
	}
	return r, nil
}

func put[T string | []byte](b []byte, n protowire.Number, v T) []byte {
	b = protowire.AppendTag(b, n, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// request encodes a DeltaDiscoveryRequest.
func request(node, typ, nonce string, subscribe []string, known map[string]string) []byte {
	var b []byte
	if node != "" {
		b = put(b, 1, put(nil, 1, node))
	}
	b = put(b, 2, typ)
	for _, s := range subscribe {
		b = put(b, 3, s)
	}
	for name, version := range known {
		b = put(b, 5, put(put(nil, 1, name), 2, version))
	}
	if nonce != "" {
		b = put(b, 6, nonce)
	}
	return b
}
