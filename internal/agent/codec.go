package agent

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// frame is one gRPC message as it came off the wire. Its buffers belong to
// whoever holds the frame; sending it gives them away.
type frame struct{ data mem.BufferSlice }

// rawCodec passes frames through. It takes the name of the protobuf codec
// because that is what the bytes are.
type rawCodec struct{}

// Name is the content subtype.
func (rawCodec) Name() string { return "proto" }

// Marshal gives the buffers of a frame to gRPC.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("passing on a %T: only frames pass here", v)
	}
	data := f.data
	f.data = nil
	return data, nil
}

// Unmarshal keeps the buffers: gRPC frees its own reference afterwards.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("receiving into a %T: only frames pass here", v)
	}
	data.Ref()
	f.data = data
	return nil
}
