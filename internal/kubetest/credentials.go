package kubetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/csv"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Files in a cluster's folder.
const (
	caFile        = "ca.crt"
	servingCert   = "serving.crt"
	servingKey    = "serving.key"
	webhookCert   = "webhook-client.crt"
	webhookKey    = "webhook-client.key"
	accountKey    = "service-accounts.key"
	tokensFile    = "tokens.csv"
	admissionFile = "admission.yaml"
	webhookFile   = "webhook-client.kubeconfig"
)

// kubeconfigOf is the name of the file by which programs act as the user.
func kubeconfigOf(user string) string { return user + ".kubeconfig" }

// admission makes the API server show its client certificate to admission webhooks. The
// two %s are the kubeconfig with the certificate.
const admission = `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: MutatingAdmissionWebhook
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: WebhookAdmissionConfiguration
    kubeConfigFile: %s
- name: ValidatingAdmissionWebhook
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: WebhookAdmissionConfiguration
    kubeConfigFile: %s
`

// writeCredentials writes everything that the programs read at their start.
func (c *Cluster) writeCredentials(users []User) error {
	serving, err := newAuthority("kubetest serving")
	if err != nil {
		return err
	}
	webhooks, err := newAuthority("kubetest webhook clients")
	if err != nil {
		return err
	}
	c.CA, c.WebhookClientCA = serving.pem(), webhooks.pem()
	if err := c.write(caFile, c.CA); err != nil {
		return err
	}
	if err := c.issue(serving, servingCert, servingKey, x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(ServiceIP)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return err
	}
	if err := c.issue(webhooks, webhookCert, webhookKey, x509.Certificate{
		Subject:     pkix.Name{CommonName: WebhookClientName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key of service accounts: %w", err)
	}
	if err := c.writeKey(accountKey, key); err != nil {
		return err
	}
	if err := c.writeTokens(users); err != nil {
		return err
	}
	return c.writeAdmission()
}

// writeTokens gives each user a token of 128 random bits.
func (c *Cluster) writeTokens(users []User) error {
	var b strings.Builder
	w := csv.NewWriter(&b)
	for _, u := range append([]User{{Name: Admin, Groups: []string{"system:masters"}}}, users...) {
		if c.tokens[u.Name] != "" {
			return fmt.Errorf("two users are called %q", u.Name)
		}
		c.tokens[u.Name] = rand.Text()
		record := []string{c.tokens[u.Name], u.Name, u.Name}
		if len(u.Groups) > 0 {
			record = append(record, strings.Join(u.Groups, ","))
		}
		if err := w.Write(record); err != nil {
			return fmt.Errorf("writing the tokens: %w", err)
		}
	}
	w.Flush()
	return c.write(tokensFile, []byte(b.String()))
}

func (c *Cluster) writeAdmission() error {
	file := filepath.Join(c.dir, webhookFile)
	// "*" stands for every webhook; a name would have to be HOST:PORT of its URL.
	conf := clientcmdapi.Config{AuthInfos: map[string]*clientcmdapi.AuthInfo{"*": {
		ClientCertificate: filepath.Join(c.dir, webhookCert), ClientKey: filepath.Join(c.dir, webhookKey),
	}}}
	if err := clientcmd.WriteToFile(conf, file); err != nil {
		return fmt.Errorf("writing the API server's own identity: %w", err)
	}
	return c.write(admissionFile, fmt.Appendf(nil, admission, file, file))
}

// connect makes the clients and a kubeconfig for each user.
func (c *Cluster) connect(url string) error {
	for user, token := range c.tokens {
		conf := clientcmdapi.Config{
			Clusters:       map[string]*clientcmdapi.Cluster{"kubetest": {Server: url, CertificateAuthorityData: c.CA}},
			AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: {Token: token}},
			Contexts:       map[string]*clientcmdapi.Context{"kubetest": {Cluster: "kubetest", AuthInfo: user}},
			CurrentContext: "kubetest",
		}
		if err := clientcmd.WriteToFile(conf, filepath.Join(c.dir, kubeconfigOf(user))); err != nil {
			return fmt.Errorf("writing the kubeconfig of %q: %w", user, err)
		}
	}
	c.Kubeconfig = filepath.Join(c.dir, kubeconfigOf(Admin))
	c.Config = &rest.Config{
		Host: url, BearerToken: c.tokens[Admin], TLSClientConfig: rest.TLSClientConfig{CAData: c.CA},
		QPS: -1, UserAgent: "kubetest", WarningHandler: rest.NoWarnings{},
	}
	var err error
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.Config); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return c.applier.connect(c.Config, c.Dynamic)
}

// As returns the configuration by which a user of Options talks to the cluster, and
// the kubeconfig for programs that do.
func (c *Cluster) As(user string) (config *rest.Config, kubeconfig string, err error) {
	token, known := c.tokens[user]
	if !known {
		return nil, "", fmt.Errorf("the cluster was not told of a user %q", user)
	}
	config = rest.CopyConfig(c.Config)
	config.BearerToken = token
	return config, filepath.Join(c.dir, kubeconfigOf(user)), nil
}

// authority signs certificates that last as long as any test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("making a key: %w", err)
	}
	a := authority{key: key}
	template := x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	a.cert, err = sign(template, &template, key.Public(), key)
	return a, err
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func sign(template x509.Certificate, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	now := time.Now()
	template.SerialNumber, template.NotBefore, template.NotAfter = serial, now.Add(-time.Hour), now.Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key, by)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// issue writes a new key and its certificate.
func (c *Cluster) issue(a authority, certFile, keyFile string, template x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	cert, err := sign(template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	if err := c.write(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})); err != nil {
		return err
	}
	return c.writeKey(keyFile, key)
}

func (c *Cluster) writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	return c.write(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func (c *Cluster) write(file string, b []byte) error {
	if err := os.WriteFile(filepath.Join(c.dir, file), b, 0o600); err != nil {
		return fmt.Errorf("writing the files of a cluster: %w", err)
	}
	return nil
}
