package certstore

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"meshc.dev/meshc/internal/certref"
)

// SecretName is the file that holds the secret of a client of OpenID Connect.
const SecretName = "client-secret"

// sessions is what the key of sessions is derived for.
const sessions = "meshc: key of sessions"

// Secret is a text that proxies keep to themselves.
type Secret struct{ Text []byte }

// secretOf reads the secret of a client, or makes the key of its sessions of it: whoever has a cookie may guess the secret
// by it, as often as he likes. No message tells what stands there.
func secretOf(kind certref.Kind, text []byte) (*Secret, error) {
	text = bytes.TrimRight(text, "\r\n")
	if len(text) < shortest {
		return nil, fmt.Errorf("it has %d characters, and a secret at least %d", len(text), shortest)
	}
	if bytes.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("a secret is printable ASCII, without blanks")
	}
	if kind == certref.ClientSecret {
		return &Secret{bytes.Clone(text)}, nil
	}
	h := hmac.New(sha256.New, text)
	h.Write([]byte(sessions))
	return &Secret{hex.AppendEncode(nil, h.Sum(nil))}, nil
}

func (s *Secret) same(c Content) bool {
	o, is := c.(*Secret)
	return is && bytes.Equal(s.Text, o.Text)
}

func (*Secret) names() []string        { return nil }
func (*Secret) ends() time.Time        { return time.Time{} }
func (*Secret) dates(time.Time) string { return "" }

func ofClient(kind certref.Kind) bool {
	return kind == certref.ClientSecret || kind == certref.SessionKey
}
