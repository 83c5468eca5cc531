package agent

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/operatorfile"
)

const (
	// SecretPublicRoots is the secret with the authorities that this machine trusts. With "/"
	// and a name it is those in the file of that name, with .pem, in the folder of --roots.
	SecretPublicRoots = "roots"

	// rootsEvery is how often files of roots are read again for those who asked for them.
	rootsEvery = time.Minute
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

// rootsSecret encodes the roots of that name as they are now. Which names those may prove is
// said in the configuration, beside the reference.
func rootsSecret(name, dir string) (secret, error) {
	text, err := readRoots(name, dir)
	if err != nil {
		return secret{}, err
	}
	certs := certificatesIn(text)
	if len(certs) == 0 {
		return secret{}, errors.New("there is no certificate in it")
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

func readRoots(name, dir string) ([]byte, error) {
	file, of := strings.CutPrefix(name, SecretPublicRoots+"/")
	if of {
		if dir == "" {
			return nil, errors.New("--roots names no folder")
		}
		if file == "" || strings.ContainsAny(file, `/\`) || strings.HasPrefix(file, ".") {
			return nil, fmt.Errorf("%q is no name of a file", file)
		}
		return operatorfile.Read(filepath.Join(dir, file+".pem"))
	}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" { // as Go's programs and OpenSSL's have it
		return operatorfile.Read(file)
	}
	for _, file := range systemRoots() {
		if text, err := operatorfile.Read(file); err == nil {
			return text, nil
		}
	}
	return nil, errors.New("this machine has no file of authorities that it trusts: set SSL_CERT_FILE")
}
