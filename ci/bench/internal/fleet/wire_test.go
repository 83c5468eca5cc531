package fleet

import (
	"bytes"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// What the clients send and read by hand is what the generated code says.
func TestWire(t *testing.T) {
	want := &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "n"}, TypeUrl: "t", ResponseNonce: "7", ResourceNamesSubscribe: []string{"a", "b"},
		InitialResourceVersions: map[string]string{"a": "1", "b": "2"},
	}
	var got discoveryv3.DeltaDiscoveryRequest
	if err := proto.Unmarshal(request("n", "t", "7", []string{"a", "b"}, map[string]string{"a": "1", "b": "2"}), &got); err != nil || !proto.Equal(&got, want) {
		t.Errorf("%v, %v; want %v", &got, err, want)
	}
	raw, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: "v", TypeUrl: "t", Nonce: "9", RemovedResources: []string{"x"},
		Resources: []*discoveryv3.Resource{{Name: "a", Version: "1", Resource: &anypb.Any{TypeUrl: "t", Value: []byte("body")}}, {Name: "b", Version: "2"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := parse(raw)
	if err != nil || r.typ != "t" || r.nonce != "9" || !slices.Equal(r.removed, []string{"x"}) ||
		len(r.resources) != 2 || r.resources[0].name != "a" || r.resources[0].version != "1" || !bytes.Contains(r.resources[0].body, []byte("body")) ||
		r.resources[1].name != "b" || r.resources[1].version != "2" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := parse(raw[:len(raw)-1]); err == nil {
		t.Error("a torn response is read")
	}
}
