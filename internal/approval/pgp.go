package approval

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// pgpRing is a public key of the policy, parsed once: packets that gpg looks at and
// the library's entity does not hold are kept beside it.
type pgpRing struct {
	entity *openpgp.Entity
	// direct are the owner's signatures over the key itself; a date of expiry may
	// stand there only.
	direct []*packet.Signature
}

const (
	pgpSignature = "PGP SIGNATURE"
	pgpPublicKey = "PGP PUBLIC KEY BLOCK"
)

// pgpKey reads one armored public key with everything that gpg asks of it but dates.
func pgpKey(armored string) (k Key, rsaBits int, reason string) {
	if strings.Contains(armored, "PRIVATE KEY BLOCK") {
		return k, 0, "it is a private PGP key"
	}
	raw, err := unarmorPGP(pgpPublicKey, strings.TrimSpace(armored))
	if err != nil {
		return k, 0, fmt.Sprintf("the PGP key cannot be read: %v", err)
	}
	if n := pgpKeys(raw); n != 1 {
		return k, 0, fmt.Sprintf("the PGP text has %d keys, not one", n)
	}
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(raw)))
	switch {
	case err != nil:
		return k, 0, fmt.Sprintf("the PGP key cannot be read: %v", err)
	case e.PrivateKey != nil:
		return k, 0, "it is a private PGP key"
	}
	ring := &pgpRing{entity: e}
	if reason := ring.readDirect(raw); reason != "" {
		return k, 0, reason
	}
	k = Key{Kind: PGPKey, Text: armored, Fingerprint: pgpFingerprint(e.PrimaryKey), pgp: ring}
	for i, p := range ring.keys() {
		bits, reason := pgpStrength(p, i == 0)
		if reason != "" {
			return k, 0, reason
		}
		if bits > 0 && (rsaBits == 0 || bits < rsaBits) {
			rsaBits = bits
		}
		if m := material(p.PublicKey); m != "" {
			k.material = append(k.material, m)
		}
		if i > 0 {
			k.subkeys = append(k.subkeys, pgpFingerprint(p))
		}
	}
	return k, rsaBits, ring.weak()
}

// keys are the primary key and its subkeys.
func (r *pgpRing) keys() []*packet.PublicKey {
	out := []*packet.PublicKey{r.entity.PrimaryKey}
	for _, s := range r.entity.Subkeys {
		out = append(out, s.PublicKey)
	}
	return out
}

func pgpStrength(p *packet.PublicKey, primary bool) (rsaBits int, reason string) {
	switch p.PubKeyAlgo {
	case packet.PubKeyAlgoDSA:
		return 0, "a DSA key is too weak"
	case packet.PubKeyAlgoElGamal:
		if primary {
			return 0, "an ElGamal key does not sign"
		}
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		n, err := p.BitLength()
		if err != nil || n < minRSA || n > maxRSA {
			return 0, rsaSize(int(n))
		}
		return int(n), ""
	}
	return 0, ""
}

// pgpKeys counts primary keys, readable or not: the library passes over those that
// it cannot read.
func pgpKeys(raw []byte) (n int) {
	r := packet.NewOpaqueReader(bytes.NewReader(raw))
	for {
		p, err := r.Next()
		if err != nil {
			return n
		}
		if p.Tag == packetPublicKey {
			n++
		}
	}
}

const packetPublicKey = 6 // RFC 9580, section 5

// readDirect finds the owner's signatures over the primary key alone.
func (r *pgpRing) readDirect(raw []byte) (reason string) {
	packets := packet.NewReader(bytes.NewReader(raw))
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			return ""
		}
		if err != nil {
			return fmt.Sprintf("the PGP key cannot be read: %v", err)
		}
		s, ok := p.(*packet.Signature)
		if !ok || s.SigType != packet.SigTypeDirectSignature || !s.CheckKeyIdOrFingerprint(r.entity.PrimaryKey) {
			continue
		}
		if err := r.entity.PrimaryKey.VerifyDirectKeySignature(s); err != nil {
			return fmt.Sprintf("a signature of the PGP key over itself does not hold: %v", err)
		}
		r.direct = append(r.direct, s)
	}
}

// weak says that what binds the key together could have been made by somebody else.
func (r *pgpRing) weak() string {
	bindings := slices.Clone(r.direct)
	if s, _ := r.entity.PrimarySelfSignature(); s != nil {
		bindings = append(bindings, s)
	}
	for _, s := range r.entity.Subkeys {
		if s.Sig == nil || !s.Sig.FlagSign {
			continue
		}
		bindings = append(bindings, s.Sig, s.Sig.EmbeddedSignature)
	}
	for _, s := range bindings {
		if !strong(s.Hash) {
			return fmt.Sprintf("the key's own signatures use %v; make them again: gpg --cert-digest-algo SHA256 --quick-set-expire …", s.Hash)
		}
	}
	return ""
}

// strong says that nobody can make two contents with one digest.
func strong(h crypto.Hash) bool {
	return slices.Contains([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}, h)
}

func pgpFingerprint(p *packet.PublicKey) string {
	return strings.ToUpper(fmt.Sprintf("%x", p.Fingerprint))
}

// pgpProof is a PGP signature that holds but for dates.
type pgpProof struct {
	ring *pgpRing
	key  openpgp.Key // primary or subkey that made it
	sig  *packet.Signature
}

// valid says why key or signature do not count at now, or "", as gpg does: no date
// of expiry passed, nothing revoked, nothing made before the key that made it.
func (p *pgpProof) valid(now time.Time) string {
	e := p.ring.entity
	self, id := e.PrimarySelfSignature()
	sub := p.key.PublicKey != e.PrimaryKey
	switch {
	case e.Revoked(now) || (sub && p.key.Revoked(now)) || (id != nil && id.Revoked(now)):
		return "is revoked by its owner"
	case e.PrimaryKey.KeyExpired(self, now) || (sub && p.key.PublicKey.KeyExpired(p.key.SelfSignature, now)):
		return "has expired, or is from the future"
	case slices.ContainsFunc(p.ring.direct, func(s *packet.Signature) bool { return !s.SigExpired(now) && e.PrimaryKey.KeyExpired(s, now) }):
		return "has expired"
	case self.SigExpired(now):
		return "is bound to its name by a signature that has expired, or is from the future"
	case sub && (p.key.SelfSignature.SigExpired(now) || p.key.SelfSignature.EmbeddedSignature.SigExpired(now)):
		return "has a subkey whose binding has expired, or is from the future"
	case p.sig.CreationTime.Before(p.key.PublicKey.CreationTime):
		return "was made after its signature"
	case p.sig.CreationTime.After(now.Add(ClockSkew)):
		return "has signed in the future"
	case expired(p.sig, now):
		return "has made a signature that expired"
	}
	return ""
}

// expired is SigExpired for a signature whose maker's clock may be ahead of ours.
func expired(s *packet.Signature, now time.Time) bool {
	return s.SigLifetimeSecs != nil && *s.SigLifetimeSecs > 0 && now.After(s.CreationTime.Add(time.Duration(*s.SigLifetimeSecs)*time.Second))
}

func (t Trust) provePGP(sig gitrepo.Signature) proof {
	s, reason := onePGPSignature(sig.Armor)
	if reason != "" {
		return proof{bad: noVouch(diag.CodeUnsigned, "its PGP signature %s", reason)}
	}
	// No two signers have a key in common, but key IDs are short.
	bad := noVouch(diag.CodeWrongSigner, "it is signed with PGP key %016X, which the trust policy does not know", *s.IssuerKeyId)
	for _, o := range t.pgpIDs[*s.IssuerKeyId] {
		if err := o.key.pgp.check(s, sig.Payload); err != nil {
			bad = noVouch(diag.CodeUnsigned, "its PGP signature, which names the key of %q, does not hold: %v", o.signer, err)
			continue
		}
		k := openpgp.EntityList{o.key.pgp.entity}.KeysById(*s.IssuerKeyId)[0]
		return proof{signer: o.signer, key: o.key, pgp: &pgpProof{o.key.pgp, k, s}}
	}
	return proof{bad: bad}
}

// check verifies a signature by the primary key or a subkey, but for dates.
func (r *pgpRing) check(s *packet.Signature, payload []byte) error {
	ring := openpgp.EntityList{r.entity}
	keys := ring.KeysByIdUsage(*s.IssuerKeyId, packet.KeyFlagSign)
	if len(keys) != 1 {
		return errors.New("the key is not for signing")
	}
	key := keys[0].PublicKey
	if len(s.IssuerFingerprint) > 0 && !bytes.Equal(s.IssuerFingerprint, key.Fingerprint) {
		return errors.New("it names two keys")
	}
	for _, part := range []*packet.Signature{s, keys[0].SelfSignature} {
		for _, n := range part.Notations {
			if n.IsCritical {
				return fmt.Errorf("unknown critical notation %q", n.Name)
			}
		}
	}
	h, err := s.PrepareVerify()
	if err != nil {
		return err
	}
	_, _ = h.Write(payload) // a hash takes everything
	return key.VerifySignature(h, s)
}

// onePGPSignature demands exactly one signature packet: with several, programs
// differ in which one they look at.
func onePGPSignature(armored string) (sig *packet.Signature, reason string) {
	raw, err := unarmorPGP(pgpSignature, strings.TrimRight(armored, "\n"))
	if err != nil {
		return nil, fmt.Sprintf("cannot be read: %v", err)
	}
	r := packet.NewReader(bytes.NewReader(raw))
	n := 0
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Sprintf("cannot be read: %v", err)
		}
		s, ok := p.(*packet.Signature)
		if !ok || s.IssuerKeyId == nil {
			return nil, "has a part that is no signature, or names no key"
		}
		if s.SigType != packet.SigTypeBinary {
			return nil, "is not one of bytes: a signature of a text does not cover the ends of its lines"
		}
		if !strong(s.Hash) { // the library verifies them
			return nil, fmt.Sprintf("uses %v: only SHA-2 and SHA-3 from 256 bits count", s.Hash)
		}
		sig = s
		n++
	}
	if n != 1 {
		return nil, fmt.Sprintf("holds %d signatures, not one", n)
	}
	return sig, ""
}

var (
	armorHeader = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*: `)
	armorData   = regexp.MustCompile(`^[A-Za-z0-9+/]+={0,2}$`)
)

// unarmorPGP reads one armored block and nothing besides (RFC 9580, section 6):
// headers, an empty line, base64, and a checksum that is right if there is one.
// The library reads more, gpg does not.
func unarmorPGP(kind, text string) ([]byte, error) {
	body, ok := strings.CutPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "-----BEGIN "+kind+"-----\n")
	if ok {
		body, ok = strings.CutSuffix(body, "\n-----END "+kind+"-----")
	}
	if !ok || strings.Contains(body, "-----") {
		return nil, fmt.Errorf("it is not one armored block, BEGIN %s to END %[1]s, with nothing around it", kind)
	}
	lines := strings.Split(body, "\n")
	for len(lines) > 0 && armorHeader.MatchString(lines[0]) {
		lines = lines[1:]
	}
	if len(lines) == 0 || strings.TrimRight(lines[0], " \t") != "" {
		return nil, errors.New("its armor has no empty line after the headers")
	}
	var data strings.Builder
	sum := ""
	for i, line := range lines[1:] {
		line = strings.TrimRight(line, " \t")
		if i == len(lines)-2 && strings.HasPrefix(line, "=") {
			sum = line[1:]
			break
		}
		if !armorData.MatchString(line) {
			return nil, errors.New("its armor has a line that is not base64")
		}
		data.WriteString(line)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(data.String())
	if err != nil {
		return nil, errors.New("its armor is not base64")
	}
	if sum == "" {
		return raw, nil
	}
	want, err := base64.StdEncoding.DecodeString(sum)
	if c := crc24(raw); err != nil || !bytes.Equal(want, []byte{byte(c >> 16), byte(c >> 8), byte(c)}) {
		return nil, errors.New("the checksum of its armor is wrong")
	}
	return raw, nil
}

// crc24 is the checksum of RFC 9580, section 6.1.1.
func crc24(b []byte) uint32 {
	crc := uint32(0xB704CE)
	for _, c := range b {
		crc ^= uint32(c) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= 0x1864CFB
			}
		}
	}
	return crc & 0xFFFFFF
}
