package store_test

import (
	"bytes"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/xds-server/internal/store"
)

// FuzzRequest: whatever a client sends is read as the generated code reads it, or
// refused as it refuses.
func FuzzRequest(f *testing.F) {
	for _, m := range []*discoveryv3.DeltaDiscoveryRequest{
		{}, {TypeUrl: "t", ResourceNamesSubscribe: []string{"a", "b"}, ResponseNonce: "1"},
		{Node: &corev3.Node{Id: "n"}, InitialResourceVersions: map[string]string{"a": "1"}},
		{InitialResourceVersions: map[string]string{"a": "", "": "2", "é": "3"}, ResourceNamesUnsubscribe: []string{"x"}},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(append(raw, raw...))
		if len(raw) > 0 {
			f.Add(raw[:len(raw)-1])
		}
		f.Add(bytes.ReplaceAll(raw, []byte("a"), []byte{0xff}))
	}
	f.Add([]byte{5<<3 | 2, 0})                         // an empty entry
	f.Add([]byte{5<<3 | 2, 2, 1 << 3, 1})              // a name that is a number
	f.Add([]byte{5 << 3, 1})                           // a map that is a number
	f.Add([]byte{5<<3 | 2, 6, 10, 1, 'a', 10, 1, 'b'}) // two names
	f.Add([]byte{5<<3 | 3, 5<<3 | 4})                  // a group
	f.Fuzz(func(t *testing.T, raw []byte) {
		var got, want discoveryv3.DeltaDiscoveryRequest
		wantErr := proto.Unmarshal(raw, &want)
		err := store.Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(bytes.Clone(raw))}, &got)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%x: %v; the generated code: %v", raw, err, wantErr)
		}
		if err == nil && !proto.Equal(&got, &want) {
			t.Fatalf("%x: %v; the generated code: %v", raw, &got, &want)
		}
	})
}
