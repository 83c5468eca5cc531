package approval

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

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
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
	case ssh.KeyAlgoRSA:
		key, ok := cryptoKey(pub).(*rsa.PublicKey)
		if !ok {
			return k, 0, "the RSA key cannot be measured"
		}
		if rsaBits = key.N.BitLen(); rsaBits < minRSA || rsaBits > maxRSA {
			return k, 0, rsaSize(rsaBits)
		}
	default:
		return k, 0, fmt.Sprintf("a key of type %q is not accepted: use ed25519, ECDSA or RSA", pub.Type())
	}
	text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	return Key{Kind: SSHKey, Text: text, Fingerprint: ssh.FingerprintSHA256(pub), ssh: pub, material: []string{material(cryptoKey(pub))}}, rsaBits, ""
}

func cryptoKey(pub ssh.PublicKey) any {
	if c, ok := pub.(ssh.CryptoPublicKey); ok {
		return c.CryptoPublicKey()
	}
	return nil
}

// proveSSH checks an SSH signature (OpenSSH's PROTOCOL.sshsig), as ssh-keygen -Y
// verify does. For a key in hardware, OpenSSH's PROTOCOL.u2f holds in addition, and
// somebody must have touched it: the verification of such keys asks for the flag.
func (t Trust) proveSSH(sig gitrepo.Signature) proof {
	no := func(c diag.Code, format string, args ...any) proof { return proof{bad: noVouch(c, format, args...)} }
	raw, err := unarmorSSH(sig.Armor)
	if err != nil {
		return no(diag.CodeUnsigned, "its SSH signature cannot be read: %v", err)
	}
	s, err := sshsig.ParseSignature(raw)
	if err != nil {
		return no(diag.CodeUnsigned, "its SSH signature cannot be read: %v", err)
	}
	fp := ssh.FingerprintSHA256(s.PublicKey)
	name, k, ok := t.KeyOwner(fp)
	if !ok || k.ssh == nil {
		return no(diag.CodeWrongSigner, "it is signed with key %s, which the trust policy does not know", fp)
	}
	inHardware := strings.HasPrefix(k.ssh.Type(), "sk-")
	if len(s.Signature.Rest) > 0 && !inHardware {
		return no(diag.CodeUnsigned, "its signature by %q has bytes behind it", name)
	}
	if s.Namespace != "git" {
		return no(diag.CodeUnsigned, "its signature by %q was made for something other than git", name)
	}
	if inHardware && len(s.Signature.Rest) == 5 && s.Signature.Rest[0]&userPresent == 0 {
		return no(diag.CodeUnsigned, "its signature by %q was made without a touch of the security key", name)
	}
	if err := sshsig.Verify(bytes.NewReader(sig.Payload), s, k.ssh, s.HashAlgorithm, "git"); err != nil {
		return no(diag.CodeUnsigned, "its signature does not fit its content, though it names the key of %q", name)
	}
	return proof{signer: name, key: k}
}

// userPresent is the flag of a security key's signature that says that somebody
// touched it (PROTOCOL.u2f).
const userPresent = 1

// unarmorSSH reads the one block that ssh-keygen writes: base64 and white space,
// without headers. gitrepo has checked the first line and the last.
func unarmorSSH(text string) ([]byte, error) {
	body, ok := strings.CutPrefix(strings.TrimRight(text, "\n"), "-----BEGIN SSH SIGNATURE-----\n")
	if ok {
		body, ok = strings.CutSuffix(body, "\n-----END SSH SIGNATURE-----")
	}
	if !ok {
		return nil, errors.New("it is not one armored block")
	}
	body = strings.NewReplacer("\n", "", "\r", "", " ", "", "\t", "").Replace(body)
	return base64.StdEncoding.Strict().DecodeString(body)
}
