package approval

import (
	stdecdsa "crypto/ecdsa"
	stded25519 "crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/ecdsa"
	"github.com/ProtonMail/go-crypto/openpgp/ed25519"
	"github.com/ProtonMail/go-crypto/openpgp/ed448"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/operatorfile"
)

const (
	minRSA       = 2048 // bits; fewer are refused
	advisableRSA = 3072 // bits; fewer are warned about
	maxRSA       = 16384
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
	bounds := Key{NotBefore: l.instant("notBefore", f.NotBefore), NotAfter: l.instant("notAfter", f.NotAfter), Revoked: l.flag("revoked", f.Revoked)}
	for i, kf := range f.Keys {
		here := fmt.Sprintf("%s.keys.%d", at, i)
		k, reason := l.key(here, kf)
		if reason != "" {
			l.problem(diag.CodeTrustKey, here, "docs/trust-policy.md says which keys are accepted", "signer %q: %s", name, reason)
			continue
		}
		k.NotBefore = later(bounds.NotBefore, l.instant("notBefore", kf.NotBefore))
		k.NotAfter = earlier(bounds.NotAfter, l.instant("notAfter", kf.NotAfter))
		k.Revoked = l.flag("revoked", kf.Revoked) || bounds.Revoked
		if !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter) {
			l.problem(diag.CodeTrustKey, here, "put notBefore before notAfter", "signer %q: the key never counts", name)
		}
		l.once(here, name, k)
		s.Keys = append(s.Keys, k)
	}
	return s
}

// once refuses a private key that is listed twice, in whatever form: a person would
// count twice, or a key that is revoked in one form would count in the other.
func (l *loader) once(at, name string, k Key) {
	for _, id := range slices.Compact(slices.Sorted(slices.Values(slices.Concat([]string{k.Fingerprint}, k.subkeys, k.material)))) {
		switch owner, ok := l.keys[id]; {
		case ok && owner == name:
			l.problem(diag.CodeTrustKey, at, "list each key once", "key %s of %q is listed already, perhaps in another form", k.Fingerprint, name)
			return
		case ok:
			l.problem(diag.CodeTrustKey, at, "give every signer keys of their own", "key %s of %q is already that of %q, perhaps in another form: one person would count twice", k.Fingerprint, name, owner)
			return
		}
		defer func() { l.keys[id] = name }()
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
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
		raw, err := operatorfile.Read(p)
		if err != nil {
			return Key{}, fmt.Sprintf("the PGP key cannot be read: %v", err)
		}
		f.PGP = string(raw)
		l.keyFiles = append(l.keyFiles, raw...)
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

// rsaSize says what is wrong with the size of an RSA key.
func rsaSize(bits int) string {
	if bits > maxRSA {
		return fmt.Sprintf("an RSA key of %d bits takes too long to verify: at most %d", bits, maxRSA)
	}
	return fmt.Sprintf("an RSA key of %d bits is too weak: at least %d, better %d", bits, minRSA, advisableRSA)
}

// material is what a public key is in any form: one private key stands in SSH's form,
// in PGP's, behind several subkeys. "" for keys that do not sign.
func material(pub any) string {
	switch k := pub.(type) {
	case *rsa.PublicKey: // whoever knows the factors has the key for every exponent
		return "rsa " + k.N.Text(16)
	case stded25519.PublicKey:
		return fmt.Sprintf("ed25519 %x", []byte(k))
	case *ed25519.PublicKey:
		return fmt.Sprintf("ed25519 %x", k.Point)
	case *ed448.PublicKey:
		return fmt.Sprintf("ed448 %x", k.Point)
	case *eddsa.PublicKey: // the curve's name, the point as it is
		return fmt.Sprintf("%s %x", strings.ToLower(k.GetCurve().GetCurveName()), k.X)
	case *stdecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return ""
		}
		return fmt.Sprintf("ecdsa %s %x", k.Params().Name, point)
	case *ecdsa.PublicKey:
		return fmt.Sprintf("ecdsa %s %x", k.GetCurve().GetCurveName(), k.MarshalPoint())
	}
	return ""
}
