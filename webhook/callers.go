package webhook

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"sync"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/operatorfile"
)

// Callers say who may ask: whoever shows a certificate for client authentication that
// one of the authorities of a file signed for one name. An API server shows one if its
// admission configuration (apiserver.config.k8s.io/v1 WebhookAdmissionConfiguration)
// names a kubeconfig with it.
type Callers struct {
	path, name string
	log        *slog.Logger

	mu   sync.Mutex
	raw  []byte // of pool
	pool *x509.CertPool
	why  string // it could not be read last, "" if it was
}

// OpenCallers reads the authorities (PEM) at path. name is the subject's common name, a
// DNS name or a URI of the API server's certificate: an authority that signs API servers
// often signs kubelets and people too. The file is read again at each connection, so
// that authorities can be exchanged; while it cannot be read, those before hold. Problem:
// CodeCallers.
func OpenCallers(path, name string, log *slog.Logger) (*Callers, error) {
	c := &Callers{path: path, name: name, log: log}
	if err := c.read(); err != nil {
		d := diag.New(diag.CodeCallers, diag.Pos{File: path}, "the authorities of the API server's client certificate cannot be used: %v", err)
		return nil, diag.List{d.WithFix("name a file with the PEM certificates that signed what the API server's admission configuration shows to webhooks")}.Err()
	}
	return c, nil
}

func (c *Callers) read() error {
	raw, err := operatorfile.Read(c.path)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if bytes.Equal(raw, c.raw) {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return errors.New("it holds no PEM certificate")
	}
	c.raw, c.pool = raw, pool
	return nil
}

// Demand is base for a server that ends every other caller's handshake: such a caller
// sees the server's certificate and nothing else.
func (c *Callers) Demand(base *tls.Config) *tls.Config {
	out := base.Clone()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		err := c.read()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tell(err)
		one := base.Clone()
		one.ClientAuth, one.ClientCAs, one.VerifyConnection = tls.RequireAndVerifyClientCert, c.pool, c.verify
		one.SessionTicketsDisabled = true // a ticket would outlive an authority
		return one, nil
	}
	return out
}

func (c *Callers) verify(s tls.ConnectionState) error {
	cert := s.PeerCertificates[0]
	named := cert.Subject.CommonName == c.name || slices.Contains(cert.DNSNames, c.name) ||
		slices.ContainsFunc(cert.URIs, func(u *url.URL) bool { return u.String() == c.name })
	if !named {
		return errors.New("the certificate is not the API server's")
	}
	return nil
}

// tell logs a failure once, however many connect meanwhile.
func (c *Callers) tell(err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	if why != "" && why != c.why {
		c.log.Error("authorities of the API server's client certificate not read, those before hold", "code", diag.CodeCallers, "file", c.path, "reason", why)
	}
	c.why = why
}
