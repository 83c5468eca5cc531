package certstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"meshc.dev/meshc/internal/certref"
	"meshc.dev/meshc/internal/operatorfile"
)

// Names of the files that hold a certificate with those that lead to its root, and its
// private key, as PEM: those of Secrets of type kubernetes.io/tls.
const (
	ChainName = "tls.crt"
	KeyName   = "tls.key"
)

// Pair is a certificate with its key. It is never changed, only replaced.
type Pair struct {
	// Chain and Key are PEM, and nothing but what was checked.
	Chain, Key []byte
	Leaf       *x509.Certificate
}

func (p *Pair) same(o *Pair) bool { return bytes.Equal(p.Chain, o.Chain) && bytes.Equal(p.Key, o.Key) }

// parse reads a pair as files hold it.
func parse(chain, key []byte) (*Pair, error) {
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	p := &Pair{Leaf: c.Leaf, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
	for _, der := range c.Certificate {
		p.Chain = append(p.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return p, nil
}

// Reader reads the certificate that a reference leads to. It may be asked by several at once.
type Reader interface {
	Read(ctx context.Context, r certref.Ref) (*Pair, error)
}

// Places are the ways to certificates that an agent has.
type Places struct {
	// Folder has a folder for each file reference; "" for none.
	Folder string
}

// Read reads the pair from its place.
func (p Places) Read(_ context.Context, r certref.Ref) (*Pair, error) {
	if p.Folder == "" {
		return nil, errors.New("it is a file, and this agent has no folder of certificates: start it with --certificates")
	}
	at := func(name string) string { return filepath.Join(p.Folder, r.File, name) }
	chain, err := operatorfile.Read(at(ChainName))
	if err != nil {
		return nil, err
	}
	key, err := operatorfile.Read(at(KeyName))
	if err != nil {
		return nil, err
	}
	pair, err := parse(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s in %q: %w", ChainName, KeyName, filepath.Join(p.Folder, r.File), err)
	}
	return pair, nil
}
