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

// Content is what lies at a reference: a *Pair, *Authorities, *Accounts or *Secret. It is never changed, only replaced.
type Content interface {
	same(Content) bool
	// dates says what is wrong with when it holds.
	dates(now time.Time) string
	// names and ends are what it is known by, and its end; both may be empty.
	names() []string
	ends() time.Time
}

// Pair is a certificate with its key.
type Pair struct {
	// Chain and Key are PEM, and nothing but what was checked.
	Chain, Key []byte
	Leaf       *x509.Certificate
}

func (p *Pair) same(c Content) bool {
	o, is := c.(*Pair)
	return is && bytes.Equal(p.Chain, o.Chain) && bytes.Equal(p.Key, o.Key)
}

func (p *Pair) names() []string { return p.Leaf.DNSNames }
func (p *Pair) ends() time.Time { return p.Leaf.NotAfter }

// dates says what is wrong with when a certificate holds. It is shown to visitors all the
// same: they judge by clocks of their own.
func (p *Pair) dates(now time.Time) string {
	switch {
	case now.After(p.Leaf.NotAfter):
		return "it ended at " + p.Leaf.NotAfter.UTC().Format(time.RFC3339)
	case now.Before(p.Leaf.NotBefore):
		return "it begins at " + p.Leaf.NotBefore.UTC().Format(time.RFC3339)
	case now.Add(min(soon, p.Leaf.NotAfter.Sub(p.Leaf.NotBefore)/10)).After(p.Leaf.NotAfter):
		return "it ends at " + p.Leaf.NotAfter.UTC().Format(time.RFC3339) + " and has not been replaced"
	}
	return ""
}

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
	Follow(ctx context.Context, r certref.Ref, tell func(Content, error))
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
func (p Places) Follow(ctx context.Context, r certref.Ref, tell func(Content, error)) {
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
			tell(p.read(r))
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// ofSecret reads what a Secret holds, as those of type kubernetes.io/tls do.
func ofSecret(r certref.Ref, values map[string][]byte) (Content, error) {
	if ofAccounts(r.Kind) {
		name := accountsName(r.Kind)
		a, err := accountsOf(r.Kind, values[name])
		if err != nil {
			return nil, fmt.Errorf("%s in the Secret %s/%s: %w", name, r.Namespace, r.Secret, err)
		}
		return a, nil
	}
	if ofClient(r.Kind) {
		s, err := secretOf(r.Kind, values[SecretName])
		if err != nil {
			return nil, fmt.Errorf("%s in the Secret %s/%s: %w", SecretName, r.Namespace, r.Secret, err)
		}
		return s, nil
	}
	if r.Kind != certref.Pair {
		if len(values[RootsName]) == 0 {
			return nil, fmt.Errorf("the Secret %s/%s has no %s: the authorities of visitors, as PEM", r.Namespace, r.Secret, RootsName)
		}
		a, err := authoritiesOf(r.Kind, values[RootsName], values[RevokedName])
		if err != nil {
			return nil, fmt.Errorf("the Secret %s/%s: %w", r.Namespace, r.Secret, err)
		}
		return a, nil
	}
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

// read reads what is in a folder.
func (p Places) read(r certref.Ref) (Content, error) {
	at := func(file string) string { return filepath.Join(p.Folder, r.File, file) }
	if ofAccounts(r.Kind) {
		text, err := operatorfile.Read(at(accountsName(r.Kind)))
		if err != nil {
			return nil, err
		}
		a, err := accountsOf(r.Kind, text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", at(accountsName(r.Kind)), err)
		}
		return a, nil
	}
	if ofClient(r.Kind) {
		text, err := operatorfile.Read(at(SecretName))
		if err != nil {
			return nil, err
		}
		s, err := secretOf(r.Kind, text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", at(SecretName), err)
		}
		return s, nil
	}
	if r.Kind != certref.Pair {
		return p.readRoots(r, at)
	}
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

// readRoots reads the authorities in a folder, and whom they have revoked.
func (p Places) readRoots(r certref.Ref, at func(file string) string) (Content, error) {
	roots, err := operatorfile.Read(at(RootsName))
	if err != nil {
		return nil, err
	}
	var revoked []byte
	if r.Kind == certref.Revoking {
		if revoked, err = operatorfile.Read(at(RevokedName)); err != nil {
			return nil, err
		}
	}
	a, err := authoritiesOf(r.Kind, roots, revoked)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", filepath.Join(p.Folder, r.File), err)
	}
	return a, nil
}
