package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec under "proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"meshc.dev/meshc/internal/ca"
)

// eitherCodec speaks frames and protobuf on one server.
type eitherCodec struct{ rawCodec }

func (eitherCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return rawCodec{}.Marshal(f)
	}
	return encoding.GetCodecV2("proto").Marshal(v)
}

func (eitherCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		return rawCodec{}.Unmarshal(data, f)
	}
	return encoding.GetCodecV2("proto").Unmarshal(data, v)
}

const deltaMethod = "/" + adsService + "/DeltaAggregatedResources"

// adsStream is Envoy's end of a stream, without any knowledge of the messages.
func adsStream(t *testing.T, r *running, method string) grpc.ClientStream {
	t.Helper()
	c := unix(t, r.cfg.ADSSocket, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxFromServer)))
	s, err := c.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(s pipe, b []byte) error {
	return s.SendMsg(&frame{data: mem.BufferSlice{mem.SliceBuffer(b)}})
}

func recv(s pipe) ([]byte, error) {
	var f frame
	if err := s.RecvMsg(&f); err != nil {
		return nil, err
	}
	defer f.data.Free()
	return f.data.Materialize(), nil
}

func TestADSPassesBytesUnchanged(t *testing.T) {
	p := newPlane(t, time.Hour)
	p.ads = func(method string, s grpc.ServerStream) error {
		who, err := ca.PeerFromContext(s.Context())
		if err != nil {
			return ca.StatusOf(err)
		}
		if err := send(s, []byte(method+" "+who.Identity.String())); err != nil {
			return err
		}
		for {
			b, err := recv(s)
			if errors.Is(err, io.EOF) {
				return status.Error(codes.ResourceExhausted, "that was the last word: ü")
			}
			if err != nil {
				return err
			}
			if err := send(s, b); err != nil {
				return err
			}
		}
	}
	r := start(t, p.config(t, "shop/web"))
	r.joined(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	// Not one of these is a valid DeltaDiscoveryRequest.
	messages := [][]byte{{0xff, 0xff, 0xff}, []byte("no protobuf"), {}, {0}, big}
	for _, name := range []string{"DeltaAggregatedResources", "StreamAggregatedResources"} {
		s := adsStream(t, r, "/"+adsService+"/"+name)
		if first, err := recv(s); err != nil || string(first) != "/"+adsService+"/"+name+" shop/web" {
			t.Fatalf("%q, %v", first, err)
		}
		for i, m := range messages {
			if err := send(s, m); err != nil {
				t.Fatal(err)
			}
			if got, err := recv(s); err != nil || !bytes.Equal(got, m) {
				t.Fatalf("message %d: %d bytes came back for %d, %v", i, len(got), len(m), err)
			}
		}
		// Envoy's end of stream reaches the server, the server's status reaches Envoy.
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		_, err := recv(s)
		if st := status.Convert(err); st.Code() != codes.ResourceExhausted || st.Message() != "that was the last word: ü" {
			t.Errorf("the status became %v", err)
		}
	}
	if n := r.metric(t, "ads_received_messages_total"); n != int64(2*(len(messages)+1)) {
		t.Errorf("counted %d messages", n)
	}
}

func TestADSSaysWhenTheServerIsAway(t *testing.T) {
	p := newPlane(t, time.Hour)
	hold := make(chan struct{})
	p.ads = func(_ string, s grpc.ServerStream) error {
		_ = send(s, []byte("hello"))
		select {
		case <-s.Context().Done():
		case <-hold:
		}
		return nil
	}
	r := start(t, p.config(t, "shop/web"))
	r.joined(t)
	s := adsStream(t, r, deltaMethod)
	if _, err := recv(s); err != nil {
		t.Fatal(err)
	}
	p.server.Stop()
	if _, err := recv(s); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	if _, err := recv(adsStream(t, r, deltaMethod)); status.Code(err) != codes.Unavailable {
		t.Errorf("without a server a stream ended with %v", err)
	}
	p.start(t)
	eventually(t, "a stream after the server is back", func() error {
		_, err := recv(adsStream(t, r, deltaMethod))
		return err
	})
	close(hold)
}

// A certificate lives eight seconds here, and is renewed when half of it is left. Every stream is of the certificate
// it began with, so it must end and begin again, always with a valid one.
func TestADSFollowsRotation(t *testing.T) {
	p := newPlane(t, 8*time.Second)
	p.ads = func(_ string, s grpc.ServerStream) error {
		who, err := ca.PeerFromContext(s.Context())
		if err != nil {
			return ca.StatusOf(err)
		}
		if err := send(s, []byte(fmt.Sprint(who.NotAfter.UnixNano()))); err != nil {
			return err
		}
		select {
		case <-s.Context().Done():
			return nil
		case <-time.After(time.Until(who.NotAfter)):
			return status.Error(codes.Unauthenticated, "the certificate ended while the stream was open")
		}
	}
	r := start(t, p.config(t, "shop/web"))
	r.joined(t)
	seen := map[string]bool{}
	for len(seen) < 4 {
		s := adsStream(t, r, deltaMethod)
		b, err := recv(s)
		if status.Code(err) == codes.Unavailable {
			continue // between two links
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[string(b)] = true
		if _, err := recv(s); status.Code(err) != codes.Unavailable {
			t.Fatalf("a rotated stream ended with %v", err)
		}
	}
	if n := r.metric(t, "certificate_renewals_total"); n < 3 {
		t.Errorf("%d renewals", n)
	}
	info, err := os.Stat(filepath.Join(r.cfg.StateDir, "identity.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("identity.json: %v, %v", info, err)
	}
}

// The server ends a handshake with a certificate that is over; the agent's
// stream says so instead of a broken pipe.
func TestADSExplainsARefusedCertificate(t *testing.T) {
	p := newPlane(t, time.Hour)
	cfg := p.config(t, "shop/web")
	r := start(t, cfg)
	r.joined(t)
	p.server.Stop()
	other := newPlane(t, time.Hour) // of other roots
	p.a, p.tokens = other.a, other.tokens
	p.start(t)
	_, err := recv(adsStream(t, r, deltaMethod))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "MESH0629") {
		t.Errorf("got %v", err)
	}
}
