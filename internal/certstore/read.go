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
	"time"

	"meshc.dev/meshc/internal/certref"
	"meshc.dev/meshc/internal/kubewatch"
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

// Reader follows the certificate that a reference leads to.
type Reader interface {
	// Follow tells what is there, now and whenever that changes, until ctx ends: a pair, or
	// why there is none. It may run for several references at once.
	Follow(ctx context.Context, r certref.Ref, tell func(*Pair, error))
}

// Places are the ways to certificates that an agent has.
type Places struct {
	// Folder has a folder for each file reference; "" for none.
	Folder string
	// Cluster has the Secrets; nil for none.
	Cluster *kubewatch.API
}

// every is how often files are looked at.
const every = 5 * time.Second

// Follow looks at files again and again, and has a cluster tell of Secrets.
func (p Places) Follow(ctx context.Context, r certref.Ref, tell func(*Pair, error)) {
	switch {
	case r.Secret != "" && p.Cluster == nil:
		tell(nil, errors.New("it is a Secret, and this agent knows no cluster: run the gateway by the objects of a release with the target kubernetes, or start it with --secrets"))
	case r.Secret != "":
		p.Cluster.Follow(ctx, r.Namespace, r.Secret, func(values map[string][]byte, err error) {
			if err != nil {
				tell(nil, err)
				return
			}
			tell(ofSecret(r, values))
		})
	case p.Folder == "":
		tell(nil, errors.New("it is a file, and this agent has no folder of certificates: start it with --certificates"))
	default:
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			tell(p.file(r.File))
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// ofSecret reads what a Secret holds, as those of type kubernetes.io/tls do.
func ofSecret(r certref.Ref, values map[string][]byte) (*Pair, error) {
	for _, key := range []string{ChainName, KeyName} {
		if len(values[key]) == 0 {
			return nil, fmt.Errorf("the Secret %s/%s has no %s: it has to be of type kubernetes.io/tls", r.Namespace, r.Secret, key)
		}
	}
	pair, err := parse(values[ChainName], values[KeyName])
	if err != nil {
		return nil, fmt.Errorf("%s and %s in the Secret %s/%s: %w", ChainName, KeyName, r.Namespace, r.Secret, err)
	}
	return pair, nil
}

// file reads the pair in a folder.
func (p Places) file(name string) (*Pair, error) {
	at := func(file string) string { return filepath.Join(p.Folder, name, file) }
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
		return nil, fmt.Errorf("%s and %s in %q: %w", ChainName, KeyName, filepath.Join(p.Folder, name), err)
	}
	return pair, nil
}
