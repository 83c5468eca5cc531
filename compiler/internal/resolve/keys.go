package resolve

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// key is a JSON Web Key (RFC 7517, 7518 and 8037) as far as it checks signatures.
type key struct {
	Kty string `json:"kty"`
	Use string `json:"use,omitempty"`
	Kid string `json:"kid,omitempty"`
	Alg string `json:"alg,omitempty"`
	Crv string `json:"crv,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	// What nobody but the issuer may have.
	D string `json:"d,omitempty"`
	K string `json:"k,omitempty"`
}

// Bounds of RSA keys: what RFC 7518 section 3.3 asks for, and what proxies can afford.
const leastRSA, mostRSA = 2048, 16384

// keySet reads a JWK Set: what is left of it checks signatures, and is all that a proxy needs.
func keySet(text string) (string, error) {
	var set struct {
		Keys []key `json:"keys"`
	}
	if err := json.Unmarshal([]byte(text), &set); err != nil {
		return "", fmt.Errorf("it is no JSON of a JWK Set: %w", err)
	}
	var out struct {
		Keys []key `json:"keys"`
	}
	for i, k := range set.Keys {
		if k.Use != "" && k.Use != "sig" {
			continue // it is for secrets, and proxies would take it for signatures, too
		}
		if err := k.check(); err != nil {
			return "", fmt.Errorf("key %d%s: %w", i+1, k.named(), err)
		}
		k.Use = ""
		out.Keys = append(out.Keys, k)
	}
	if len(out.Keys) == 0 {
		return "", errors.New("it has no key for signatures")
	}
	raw, err := json.Marshal(out)
	return string(raw), err
}

func (k key) named() string {
	if k.Kid == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", k.Kid)
}

func (k key) check() error {
	switch {
	case k.Kty == "oct" || k.K != "":
		return errors.New("it is a secret that signs as well as it checks, and every reader of this repository has it now")
	case k.D != "":
		return errors.New("it is the private key, and every reader of this repository has it now")
	}
	switch k.Kty {
	case "RSA":
		return k.checkRSA()
	case "EC":
		return k.checkEC()
	case "OKP":
		x, err := coordinate("x", k.X)
		if err == nil && (k.Crv != "Ed25519" || len(x) != 32) {
			err = errors.New("of OKP proxies know Ed25519, whose x has 32 bytes")
		}
		return errors.Join(err, k.signs("EdDSA"))
	case "":
		return errors.New("it says no kty")
	}
	return fmt.Errorf("proxies know no keys of kty %q, only RSA, EC and OKP", k.Kty)
}

func (k key) checkRSA() error {
	n, err := number("n", k.N)
	e, bad := number("e", k.E)
	if err = errors.Join(err, bad, k.signs("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")); err != nil {
		return err
	}
	if bits := 8 * len(n); bits < leastRSA || bits > mostRSA {
		return fmt.Errorf("n has %d bits, and %d to %d are taken", bits, leastRSA, mostRSA)
	}
	if len(e) > 4 || e[len(e)-1]%2 == 0 || len(e) == 1 && e[0] == 1 {
		return errors.New("e is no exponent of RSA")
	}
	return nil
}

func (k key) checkEC() error {
	curves := map[string]struct {
		curve ecdh.Curve
		bytes int
		alg   string
	}{"P-256": {ecdh.P256(), 32, "ES256"}, "P-384": {ecdh.P384(), 48, "ES384"}, "P-521": {ecdh.P521(), 66, "ES512"}}
	c, ok := curves[k.Crv]
	if !ok {
		return fmt.Errorf("proxies know no curve %q, only P-256, P-384 and P-521", k.Crv)
	}
	x, err := coordinate("x", k.X)
	y, bad := coordinate("y", k.Y)
	if err = errors.Join(err, bad, k.signs(c.alg)); err != nil {
		return err
	}
	if len(x) > c.bytes || len(y) > c.bytes {
		return errors.New("x or y is too long for curve " + k.Crv)
	}
	point := make([]byte, 1+2*c.bytes)
	point[0] = 4 // uncompressed, SEC 1 section 2.3.3
	copy(point[1+c.bytes-len(x):], x)
	copy(point[1+2*c.bytes-len(y):], y)
	if _, err := c.curve.NewPublicKey(point); err != nil {
		return errors.New("x and y are no point of curve " + k.Crv)
	}
	return nil
}

// signs refuses an algorithm that the key has nothing to do with.
func (k key) signs(algs ...string) error {
	if k.Alg == "" || slices.Contains(algs, k.Alg) {
		return nil
	}
	return fmt.Errorf("alg %q is none that such a key checks: %s", k.Alg, strings.Join(algs, ", "))
}

// number is Base64urlUInt of RFC 7518 section 2, without zeros in front.
func number(name, text string) ([]byte, error) {
	b, err := coordinate(name, text)
	if err != nil {
		return nil, err
	}
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return b, nil
}

func coordinate(name, text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%s is no base64url text", name)
	}
	return b, nil
}
