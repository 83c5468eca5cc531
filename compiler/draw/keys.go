package draw

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
)

// SigningKey is that of all issuers: it signs for tests.
func SigningKey() *ecdsa.PrivateKey {
	d := make([]byte, 32)
	d[31] = 7
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		panic("draw: " + err.Error())
	}
	return key
}

// KeySet is what checks signatures by the SigningKey (RFC 7517).
func KeySet() string {
	point, err := SigningKey().PublicKey.Bytes()
	if err != nil {
		panic("draw: " + err.Error())
	}
	text := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"one","x":%q,"y":%q}]}`, text(point[1:33]), text(point[33:]))
}
