package approval

import (
	"bytes"
	"crypto/rsa"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

const (
	minRSA       = 2048 // bits; fewer are refused
	advisableRSA = 3072 // bits; fewer are warned about
)

func (l *loader) signer(name string, f signerFile) Signer {
	at := "signers." + name
	if !plainName.MatchString(name) || gitrepo.CheckRef("refs/tags/meshc/"+name) != nil {
		l.problem(diag.CodeTrustValue, at, "use lower-case letters, digits, dots and hyphens", "%q is no signer's name", name)
	}
	if len(f.Keys) == 0 {
		l.problem(diag.CodeTrustKey, at, "add keys", "signer %q has no keys", name)
	}
	var s Signer
	for i, kf := range f.Keys {
		here := fmt.Sprintf("%s.keys.%d", at, i)
		k, reason := l.key(here, kf)
		if reason != "" {
			l.problem(diag.CodeTrustKey, here, "docs/trust-policy.md says which keys are accepted", "signer %q: %s", name, reason)
			continue
		}
		k.NotBefore, k.NotAfter = later(f.NotBefore, kf.NotBefore), earlier(f.NotAfter, kf.NotAfter)
		k.Revoked = f.Revoked || kf.Revoked
		if !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter) {
			l.problem(diag.CodeTrustKey, here, "put notBefore before notAfter", "signer %q: the key never counts", name)
		}
		for _, fp := range append([]string{k.Fingerprint}, k.subkeys...) {
			if owner, ok := l.keys[fp]; ok {
				l.problem(diag.CodeTrustKey, here, "give every signer keys of their own", "key %s of %q is already that of %q: one person would count twice", fp, name, owner)
			}
			l.keys[fp] = name
		}
		s.Keys = append(s.Keys, k)
	}
	return s
}

func later(a, b *time.Time) time.Time {
	switch {
	case a == nil && b == nil:
		return time.Time{}
	case a == nil || (b != nil && b.After(*a)):
		return b.UTC()
	}
	return a.UTC()
}

func earlier(a, b *time.Time) time.Time {
	switch {
	case a == nil && b == nil:
		return time.Time{}
	case a == nil || (b != nil && b.Before(*a)):
		return b.UTC()
	}
	return a.UTC()
}

func (l *loader) key(at string, f keyFile) (Key, string) {
	set := 0
	for _, s := range []string{f.SSH, f.PGP, f.PGPFile} {
		if s != "" {
			set++
		}
	}
	if set != 1 {
		return Key{}, "a key is exactly one of ssh, pgp, pgpFile"
	}
	if f.PGPFile != "" {
		p := f.PGPFile
		if !filepath.IsAbs(p) {
			p = filepath.Join(filepath.Dir(filepath.FromSlash(l.file)), p)
		}
		raw, err := os.ReadFile(p)
		if err != nil {
			return Key{}, fmt.Sprintf("the PGP key cannot be read: %v", err)
		}
		f.PGP = string(raw)
	}
	var k Key
	var bits int
	var reason string
	if f.SSH != "" {
		k, bits, reason = sshKey(f.SSH)
	} else {
		k, bits, reason = pgpKey(f.PGP)
	}
	if reason == "" && bits > 0 && bits < advisableRSA {
		l.diags = append(l.diags, diag.Warn(diag.CodeTrustKey, l.at(at), "an RSA key of %d bits", bits).WithFix("use ed25519, or RSA with %d bits", advisableRSA))
	}
	return k, reason
}

// sshKey reads one bare public key. Options that OpenSSH would honour and we
// would not (cert-authority, valid-before, principals) are refused, not ignored.
func sshKey(line string) (k Key, rsaBits int, reason string) {
	line = strings.TrimSpace(line)
	pub, _, opts, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil || len(rest) > 0 || strings.ContainsAny(line, "\n\r"):
		return k, 0, "the SSH key is not one line such as \"ssh-ed25519 AAAA…\""
	case len(opts) > 0 || !strings.HasPrefix(line, pub.Type()+" "):
		return k, 0, fmt.Sprintf("options before an SSH key are not honoured here: %q; use notBefore, notAfter", opts)
	}
	switch pub.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
	case ssh.KeyAlgoRSA:
		c, ok := pub.(ssh.CryptoPublicKey)
		if !ok {
			return k, 0, "the RSA key cannot be measured"
		}
		key, ok := c.CryptoPublicKey().(*rsa.PublicKey)
		if !ok {
			return k, 0, "the RSA key cannot be measured"
		}
		if rsaBits = key.N.BitLen(); rsaBits < minRSA {
			return k, 0, fmt.Sprintf("an RSA key of %d bits is too weak: at least %d, better %d", rsaBits, minRSA, advisableRSA)
		}
	default:
		return k, 0, fmt.Sprintf("a key of type %q is not accepted: use ed25519, ECDSA or RSA", pub.Type())
	}
	text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	return Key{Kind: SSHKey, Text: text, Fingerprint: ssh.FingerprintSHA256(pub)}, rsaBits, ""
}

func pgpKey(armored string) (k Key, rsaBits int, reason string) {
	ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(armored))
	switch {
	case err != nil:
		return k, 0, fmt.Sprintf("the PGP key cannot be read: %v", err)
	case len(ring) != 1:
		return k, 0, fmt.Sprintf("the PGP text has %d keys, not one", len(ring))
	case ring[0].PrivateKey != nil:
		return k, 0, "it is a private PGP key"
	}
	keys := []*packet.PublicKey{ring[0].PrimaryKey}
	for _, s := range ring[0].Subkeys {
		keys = append(keys, s.PublicKey)
	}
	for i, p := range keys {
		switch p.PubKeyAlgo {
		case packet.PubKeyAlgoDSA:
			return k, 0, "a DSA key is too weak"
		case packet.PubKeyAlgoElGamal:
			if i == 0 {
				return k, 0, "an ElGamal key does not sign"
			}
		case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
			n, err := p.BitLength()
			if err != nil || n < minRSA {
				return k, 0, fmt.Sprintf("an RSA key of %d bits is too weak: at least %d, better %d", n, minRSA, advisableRSA)
			}
			if rsaBits == 0 || int(n) < rsaBits {
				rsaBits = int(n)
			}
		}
	}
	k = Key{Kind: PGPKey, Text: armored, Fingerprint: pgpFingerprint(ring[0])}
	for _, p := range keys[1:] {
		k.subkeys = append(k.subkeys, strings.ToUpper(fmt.Sprintf("%x", p.Fingerprint)))
	}
	return k, rsaBits, ""
}

func pgpFingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(fmt.Sprintf("%x", e.PrimaryKey.Fingerprint))
}

// pgpRing reads a key that LoadTrust accepted.
func pgpRing(k Key) (openpgp.EntityList, error) {
	return openpgp.ReadArmoredKeyRing(bytes.NewReader([]byte(k.Text)))
}
