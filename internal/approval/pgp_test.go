package approval

import (
	"bytes"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// joinPGP signs a text with several keys and puts all signatures into one block.
func joinPGP(text string, keys ...pgp) ([]byte, error) {
	var all bytes.Buffer
	for _, k := range keys {
		armored, err := k.signer.Sign(strings.NewReader(text))
		if err != nil {
			return nil, err
		}
		b, err := armor.Decode(bytes.NewReader(armored))
		if err != nil {
			return nil, err
		}
		if _, err := all.ReadFrom(b.Body); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.SignatureType, nil)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(all.Bytes()); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}
