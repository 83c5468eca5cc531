package approval

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/fluxcd/pkg/git/signature"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// Vouch is one accepted signature.
type Vouch struct {
	Signer string  `json:"signer"`
	Key    string  `json:"key"` // fingerprint
	Method KeyKind `json:"method"`
	// Tag is the approval tag that was signed, "" for the commit itself.
	Tag string `json:"tag,omitempty"`
}

// notVouched says why a signature does not count.
type notVouched struct {
	code   diag.Code
	reason string
}

func (n *notVouched) Error() string { return n.reason }

func noVouch(c diag.Code, format string, args ...any) *notVouched {
	return &notVouched{c, fmt.Sprintf(format, args...)}
}

// vouch checks a signature against the policy's keys as of now. Whether the
// signer may sign this is not asked here.
func (t Trust) vouch(sig gitrepo.Signature, now time.Time) (Vouch, *notVouched) {
	switch sig.Kind {
	case gitrepo.SSHSignature:
		return t.vouchSSH(sig, now)
	case gitrepo.PGPSignature:
		return t.vouchPGP(sig, now)
	default:
		return Vouch{}, noVouch(diag.CodeUnsigned, "it is not signed")
	}
}

func (t Trust) vouchSSH(sig gitrepo.Signature, now time.Time) (Vouch, *notVouched) {
	parsed, err := sshsig.Unarmor([]byte(sig.Armor))
	if err != nil {
		return Vouch{}, noVouch(diag.CodeUnsigned, "its SSH signature cannot be read: %v", err)
	}
	fp := ssh.FingerprintSHA256(parsed.PublicKey)
	name, k, ok := t.KeyOwner(fp)
	if !ok {
		return Vouch{}, noVouch(diag.CodeWrongSigner, "it is signed with key %s, which the trust policy does not know", fp)
	}
	if parsed.Signature.Format == ssh.KeyAlgoRSA {
		return Vouch{}, noVouch(diag.CodeUnsigned, "its RSA signature by %q uses SHA-1", name)
	}
	if len(parsed.Signature.Rest) > 0 {
		return Vouch{}, noVouch(diag.CodeUnsigned, "its signature by %q has bytes behind it", name)
	}
	if _, err := signature.VerifySSHSignature(sig.Armor, sig.Payload, k.Text); err != nil {
		if errors.Is(err, sshsig.ErrNamespaceMismatch) {
			return Vouch{}, noVouch(diag.CodeUnsigned, "its signature by %q was made for something other than git", name)
		}
		return Vouch{}, noVouch(diag.CodeUnsigned, "its signature does not fit its content, though it names the key of %q", name)
	}
	if why := k.valid(now); why != "" {
		return Vouch{}, noVouch(diag.CodeKeyNotValid, "key %s of %q %s", fp, name, why)
	}
	return Vouch{Signer: name, Key: fp, Method: SSHKey}, nil
}

func (t Trust) vouchPGP(sig gitrepo.Signature, now time.Time) (Vouch, *notVouched) {
	issuer, reason := pgpIssuer(sig.Armor)
	if reason != "" {
		return Vouch{}, noVouch(diag.CodeUnsigned, "its PGP signature %s", reason)
	}
	// No two signers have a key in common, but key IDs are short.
	out := noVouch(diag.CodeWrongSigner, "it is signed with PGP key %016X, which the trust policy does not know", issuer)
	for _, name := range slices.Sorted(maps.Keys(t.Signers)) {
		for _, k := range t.Signers[name].Keys {
			if k.Kind != PGPKey {
				continue
			}
			ring, err := pgpRing(k)
			if err != nil || len(ring.KeysById(issuer)) == 0 {
				continue
			}
			_, err = openpgp.CheckArmoredDetachedSignature(ring, bytes.NewReader(sig.Payload), strings.NewReader(sig.Armor),
				&packet.Config{Time: func() time.Time { return now }})
			switch why := k.valid(now); {
			case errors.Is(err, pgperrors.ErrKeyExpired) || errors.Is(err, pgperrors.ErrKeyRevoked) || errors.Is(err, pgperrors.ErrSignatureExpired):
				out = noVouch(diag.CodeKeyNotValid, "PGP key %s of %q: %v", k.Fingerprint, name, err)
			case err != nil:
				out = noVouch(diag.CodeUnsigned, "its PGP signature, which names the key of %q, does not hold: %v", name, err)
			case why != "":
				out = noVouch(diag.CodeKeyNotValid, "PGP key %s of %q %s", k.Fingerprint, name, why)
			default:
				return Vouch{Signer: name, Key: k.Fingerprint, Method: PGPKey}, nil
			}
		}
	}
	return Vouch{}, out
}

// pgpIssuer demands exactly one signature packet: with several, programs differ
// in which one they look at.
func pgpIssuer(armored string) (id uint64, reason string) {
	block, err := armor.Decode(strings.NewReader(armored))
	if err != nil {
		return 0, fmt.Sprintf("cannot be read: %v", err)
	}
	r := packet.NewReader(block.Body)
	n := 0
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Sprintf("cannot be read: %v", err)
		}
		s, ok := p.(*packet.Signature)
		if !ok || s.IssuerKeyId == nil {
			return 0, "has a part that is no signature, or names no key"
		}
		if s.SigType != packet.SigTypeBinary {
			return 0, "is not one of bytes: a signature of a text does not cover the ends of its lines"
		}
		switch s.Hash {
		case crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512:
		default: // the library verifies them
			return 0, fmt.Sprintf("uses %v: only SHA-2 and SHA-3 from 256 bits count", s.Hash)
		}
		id = *s.IssuerKeyId
		n++
	}
	if n != 1 {
		return 0, fmt.Sprintf("holds %d signatures, not one", n)
	}
	return id, ""
}
