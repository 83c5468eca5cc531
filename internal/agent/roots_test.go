package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
)

// bundle is a root of an authority of its own, as PEM.
func bundle(t *testing.T) []byte {
	t.Helper()
	return ca.EncodeCertificates(newPlane(t, time.Hour).a.Bundle().X509Authorities())
}

// Of the files of roots each counts for itself: what is missing, empty, no PEM or never ends is told
// and stays unanswered, the others are given, follow their files, and outlive a bad edit.
func TestRootsOfOthersAreGivenAsTheyLie(t *testing.T) {
	p := newPlane(t, time.Hour)
	cfg := p.config(t, "shop/web")
	cfg.RootsDir = t.TempDir()
	put := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(cfg.RootsDir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second, system := bundle(t), bundle(t), bundle(t)
	put("turned.pem", first)
	put("spoilt.pem", first)
	put("late.pem", nil)
	put("empty.pem", nil)
	put("text.pem", []byte("no certificate\n"))
	put("key.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	put("remarks.pem", append([]byte("# of the bank\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), first...))
	put("machine", system)
	if err := os.Symlink("/dev/zero", filepath.Join(cfg.RootsDir, "endless.pem")); err != nil {
		t.Fatal(err)
	}
	cfg.SystemRoots = filepath.Join(cfg.RootsDir, "machine")
	r := start(t, cfg)
	r.joined(t)
	s, err := secretv3.NewSecretDiscoveryServiceClient(unix(t, r.cfg.SDSSocket)).DeltaSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range []string{"turned", "spoilt", "late", "empty", "text", "key", "remarks", "endless", "missing", "../machine", ""} {
		names = append(names, SecretPublicRoots+"/"+n)
	}
	if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResourceNamesSubscribe: append(names, SecretPublicRoots)}); err != nil {
		t.Fatal(err)
	}
	// receive gives what the next response holds, by name.
	receive := func() map[string][]byte {
		t.Helper()
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string][]byte{}
		for _, x := range m.GetResources() {
			out[x.GetName()] = decode(t, x.GetResource()).GetValidationContext().GetTrustedCa().GetInlineBytes()
		}
		return out
	}
	check := func(got, want map[string][]byte) {
		t.Helper()
		for name := range got {
			if want[name] == nil {
				t.Errorf("secret %q is given", name)
			}
		}
		for name, text := range want {
			if !bytes.Equal(got[name], text) {
				t.Errorf("secret %q is %q, want %q", name, got[name], text)
			}
		}
	}
	check(receive(), map[string][]byte{"roots": system, "roots/turned": first, "roots/spoilt": first, "roots/remarks": first})
	for name, why := range map[string]string{
		"late": "there is no certificate in it", "empty": "there is no certificate in it", "text": "there is no certificate in it", "key": "there is no certificate in it",
		"endless": "has more than", "missing": "no such file", "../machine": "is no name of a file", "": "is no name of a file",
	} {
		told := `"no roots: calls that are verified by them fail","name":"roots/` + name + `"`
		if !strings.Contains(r.log.String(), told) || !strings.Contains(r.log.String(), why) {
			t.Errorf("the log does not tell that %q: %s", name, why)
		}
	}
	put("spoilt.pem", []byte("-----BEGIN"))
	put("turned.pem", second)
	put("late.pem", second)
	got := map[string][]byte{}
	for len(got) < 2 { // both files, in one response or in two
		for name, text := range receive() {
			got[name] = text
		}
	}
	check(got, map[string][]byte{"roots/turned": second, "roots/late": second})
	eventually(t, "a word on the spoilt file", func() error {
		if !strings.Contains(r.log.String(), `"roots not read; those before count","name":"roots/spoilt"`) {
			return errors.New("none")
		}
		return nil
	})
}

func TestRootsThatAreNoFolder(t *testing.T) {
	p := newPlane(t, time.Hour)
	cfg := p.config(t, "shop/web")
	cfg.RootsDir = filepath.Join(t.TempDir(), "absent")
	_, problems := cfg.Normalise()
	wantCode(t, problems.Err(), diag.CodeAgentFlag)
	if text := problems.Err().Error(); !strings.Contains(text, "is no folder") {
		t.Error(text)
	}
}
