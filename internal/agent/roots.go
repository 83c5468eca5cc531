package agent

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/operatorfile"
)

const (
	// SecretPublicRoots is the secret with the authorities that this machine trusts. With "/"
	// and a name it is those in the file of that name, with .pem, in the folder of --roots.
	SecretPublicRoots = "roots"

	// rootsEvery is how often files of roots are read again for those who asked for them.
	rootsEvery = 5 * time.Second
)

// systemRoots are the files in which systems keep whom they trust: Debian, Fedora, SUSE,
// OpenELEC, newer Fedora, Alpine and macOS.
func systemRoots() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	}
}

// isRoots reports whether a secret's name stands for roots of others.
func isRoots(secret string) bool {
	return secret == SecretPublicRoots || strings.HasPrefix(secret, SecretPublicRoots+"/")
}

// authorities are the roots of others as they lie on this machine. What cannot be read never
// takes away what was good, and touches no other.
type authorities struct {
	folder string   // with NAME.pem, "" for none
	system []string // the files of the machine's own, of which the first that is there counts
	log    *slog.Logger

	mu   sync.Mutex
	held map[string]*heldRoots // by the secret's name
}

// heldRoots is what was last read of one file.
type heldRoots struct {
	seen    string // digest of the bytes
	good    *secret
	problem string
}

// get gives the roots of that name as they are now, or as they were when they were last good;
// nil if they never were. Which names those may prove is said in the configuration, beside the
// reference.
func (a *authorities) get(name string) *secret {
	file, text, err := a.read(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.held[name]
	if h == nil {
		h = &heldRoots{}
		a.held[name] = h
	}
	if digest := canon.Digest(text); err == nil && digest != h.seen {
		var fresh secret
		if fresh, err = rootsSecret(name, text); err == nil {
			h.good, h.seen = &fresh, digest
		}
	}
	switch problem := fmt.Sprint(err); {
	case err == nil && h.problem != "":
		a.log.Info("roots are good again", "name", name, "file", file)
		h.problem = ""
	case err != nil && problem != h.problem:
		h.problem = problem
		if h.good == nil {
			a.log.Error("no roots: calls that are verified by them fail", "name", name, "file", file, "error", err)
		} else {
			a.log.Error("roots not read; those before count", "name", name, "file", file, "error", err)
		}
	}
	return h.good
}

// rootsSecret encodes the certificates of a bundle.
func rootsSecret(name string, text []byte) (secret, error) {
	certs := certificatesIn(text)
	if len(certs) == 0 {
		return secret{}, errors.New("there is no certificate in it: PEM is expected, -----BEGIN CERTIFICATE-----")
	}
	return encode(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: ca.EncodeCertificates(certs)}},
	}}})
}

// certificatesIn are the certificates of a bundle. Those of systems hold remarks between them,
// and some that Go cannot read: one that Envoy could not read either would cost all others.
func certificatesIn(text []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil && block.Type == "CERTIFICATE" && !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
}

// read gives the bytes of the file that a name stands for, and which it is.
func (a *authorities) read(name string) (file string, text []byte, err error) {
	of, named := strings.CutPrefix(name, SecretPublicRoots+"/")
	if !named {
		for _, file := range a.system {
			if text, err = operatorfile.Read(file); err == nil || len(a.system) == 1 {
				return file, text, err
			}
		}
		return "", nil, errors.New("this machine has no file of authorities that it trusts: set SSL_CERT_FILE")
	}
	if a.folder == "" {
		return "", nil, errors.New("start the agent with --roots, a folder with that name and .pem")
	}
	if of == "" || strings.ContainsAny(of, `/\`) || strings.HasPrefix(of, ".") {
		return "", nil, fmt.Errorf("%q is no name of a file", of)
	}
	file = filepath.Join(a.folder, of+".pem")
	text, err = operatorfile.Read(file)
	return file, text, err
}
