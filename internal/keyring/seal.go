package keyring

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
)

// Seal marks data as a replica's own, for one purpose: whoever has the roots can tell, and
// nobody else can make it (HMAC-SHA-256 under a key that is derived from a root's).
func (k *Keyring) Seal(purpose string, data []byte) ([]byte, error) {
	s := k.now.Load()
	by, ok := s.ring.signer(k.o.Clock())
	if !ok {
		by = s.ring.roots[0]
	}
	return by.seal(purpose, data)
}

// Sealed reports whether seal is one of data for that purpose, by a root that is known.
func (k *Keyring) Sealed(purpose string, data, seal []byte) bool {
	for _, r := range k.now.Load().ring.roots {
		if want, err := r.seal(purpose, data); err == nil && hmac.Equal(want, seal) {
			return true
		}
	}
	return false
}

func (c root) seal(purpose string, data []byte) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	derived := hmac.New(sha256.New, key)
	derived.Write([]byte("meshc.dev/seal\n" + purpose))
	mac := hmac.New(sha256.New, derived.Sum(nil))
	mac.Write(data)
	return mac.Sum(nil), nil
}
