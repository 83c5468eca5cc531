package agent

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
)

// svid is one certificate with its key and the roots that came with it. It is
// never changed, only replaced.
type svid struct {
	id     spiffeid.ID
	chain  []*x509.Certificate
	key    crypto.Signer
	bundle []*x509.Certificate
}

// newRequest makes a key and a certificate request (DER) for id.
func newRequest(id spiffeid.ID) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate request for %q: %w", id, err)
	}
	return key, csr, nil
}

// newSVID joins key and answer, and trusts the server no further than needed:
// the certificate must be for this key and name, and verify now.
func newSVID(id spiffeid.ID, key *ecdsa.PrivateKey, got ca.Issued, now time.Time) (*svid, error) {
	b := x509bundle.FromX509Authorities(id.TrustDomain(), got.Bundle)
	has, _, err := x509svid.Verify(got.Chain, b, x509svid.WithTime(now))
	if err != nil {
		return nil, fmt.Errorf("verifying the certificate of %q: %w", id, err)
	}
	if has != id {
		return nil, fmt.Errorf("the certificate is for %q, asked was %q", has, id)
	}
	if !key.PublicKey.Equal(got.Chain[0].PublicKey) {
		return nil, fmt.Errorf("the certificate of %q is for another key", id)
	}
	return &svid{id: id, chain: got.Chain, key: key, bundle: got.Bundle}, nil
}

func (s *svid) notAfter() time.Time      { return s.chain[0].NotAfter }
func (s *svid) notBefore() time.Time     { return s.chain[0].NotBefore }
func (s *svid) begun(now time.Time) bool { return !now.Before(s.notBefore()) }
func (s *svid) ended(now time.Time) bool { return !now.Before(s.notAfter()) }
func (s *svid) lifetime() time.Duration  { return s.notAfter().Sub(s.chain[0].NotBefore) }
func (s *svid) at(part float64) time.Time {
	return s.chain[0].NotBefore.Add(time.Duration(part * float64(s.lifetime())))
}

func (s *svid) tls() *tls.Certificate {
	c := &tls.Certificate{PrivateKey: s.key, Leaf: s.chain[0]}
	for _, x := range s.chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c
}

func (s *svid) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key of %q: %w", s.id, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

const identityFormat = "meshc-identity/v1"

// identityName is where the present identity is in the state folder, beforeName the
// one before it.
const (
	identityName = "identity.json"
	beforeName   = "identity-before.json"
)

// identityFile is such a file: one, so that key and certificate always belong
// together.
type identityFile struct {
	Format string `json:"format"`
	ID     string `json:"id"`
	Chain  string `json:"chain"`
	Key    string `json:"key"`
	Bundle string `json:"bundle"`
}

func (s *svid) save(dir, name string) error {
	key, err := s.keyPEM()
	if err != nil {
		return err
	}
	data, err := canon.JSON(identityFile{
		Format: identityFormat, ID: s.id.String(), Key: string(key),
		Chain: string(ca.EncodeCertificates(s.chain)), Bundle: string(ca.EncodeCertificates(s.bundle)),
	})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, name), data, 0o600)
}

// loadSVID reads what save wrote. os.ErrNotExist if there is nothing. It does
// not check the time: an ended certificate still says who this is.
func loadSVID(dir, name string) (*svid, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the stored identity: %w", err)
	}
	bad := func(format string, args ...any) error {
		return problem(diag.New(diag.CodeAgentState, diag.Pos{}, "%q: %s", path, fmt.Sprintf(format, args...)).
			WithFix("remove the file and join with a new token"))
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, bad("it holds a private key and has mode %04o", info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, bad("%v", err)
	}
	var f identityFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil || f.Format != identityFormat {
		return nil, bad("damaged, or of another version")
	}
	s, err := f.decode()
	if err != nil {
		return nil, bad("%v", err)
	}
	return s, nil
}

func (f identityFile) decode() (*svid, error) {
	id, err := spiffeid.FromString(f.ID)
	if err != nil {
		return nil, err
	}
	chain, err := ca.ParseCertificates([]byte(f.Chain))
	if err != nil {
		return nil, err
	}
	bundle, err := ca.ParseCertificates([]byte(f.Bundle))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(f.Key))
	if block == nil {
		return nil, fmt.Errorf("the key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T", parsed)
	}
	return newSVID(id, key, ca.Issued{Chain: chain, Bundle: bundle}, chain[0].NotBefore)
}

// holder is the present svid and a bell that rings when it is replaced.
type holder struct {
	mu   sync.Mutex
	cur  *svid
	next chan struct{}
}

func newHolder() *holder { return &holder{next: make(chan struct{})} }

// get returns the present svid (nil before the join) and a channel that is
// closed when there is another.
func (h *holder) get() (*svid, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cur, h.next
}

func (h *holder) set(s *svid) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cur = s
	close(h.next)
	h.next = make(chan struct{})
}
