package demo

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
)

// SignFile does what Git asks of `ssh-keygen -Y sign -n NAMESPACE -f KEY FILE`: it
// writes the signature of file to file.sig. It stands in where OpenSSH's client is
// not installed. The key must have no passphrase.
func SignFile(namespace, key, file string) error {
	raw, err := os.ReadFile(key)
	if err != nil {
		return fmt.Errorf("reading the signing key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		return fmt.Errorf("reading the signing key %q: %w", key, err)
	}
	message, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading what is to be signed: %w", err)
	}
	sig, err := signSSH(signer, namespace, message)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".sig", sig, 0o600); err != nil {
		return fmt.Errorf("writing the signature: %w", err)
	}
	return nil
}

// sshMagic begins both what is signed and the signature (OpenSSH's PROTOCOL.sshsig).
const sshMagic = "SSHSIG"

func signSSH(signer ssh.Signer, namespace string, message []byte) ([]byte, error) {
	if signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
		return nil, errors.New("signing: only ed25519 keys are made here")
	}
	digest := sha512.Sum512(message)
	signed := append([]byte(sshMagic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{namespace, "", "sha512", string(digest[:])})...)
	sig, err := signer.Sign(rand.Reader, signed)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	blob := append([]byte(sshMagic), ssh.Marshal(struct {
		Version                                         uint32
		PublicKey, Namespace, Reserved, Hash, Signature string
	}{1, string(signer.PublicKey().Marshal()), namespace, "", "sha512", string(ssh.Marshal(sig))})...)
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob}), nil
}
