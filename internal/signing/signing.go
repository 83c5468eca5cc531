// Package signing finds a private key that signs tags.
//
// In: what a person named: a file with a private key, encrypted or not; the public
// half of a key that an ssh-agent holds or a security key has; a key of gpg's; or
// nothing, if the agent has just one that will do. Out: a Key.
//
// What always holds: a private key is read into this process only if its file was
// named; agents, gpg and ssh-keygen keep theirs. Nobody is asked for a passphrase
// that an agent makes unnecessary.
package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/fluxcd/pkg/git/signature"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/operatorfile"
)

// Key signs tags.
type Key struct {
	// Fingerprint is SHA256:… of an SSH key, or upper-case hexadecimal digits of a PGP
	// key (the primary key's, whichever subkey signs).
	Fingerprint string
	sign        func(payload []byte) ([]byte, error)
}

// Sign makes an armored SSH or PGP signature over what it reads.
func (k Key) Sign(r io.Reader) ([]byte, error) {
	payload, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return k.sign(payload)
}

// PersonWait bounds whatever waits for a person: a passphrase, a touch, a PIN.
const PersonWait = 5 * time.Minute

// Options are what Open may use. The zero value uses nothing but the file.
type Options struct {
	// Agent is the socket of an ssh-agent (SSH_AUTH_SOCK), "" for none.
	Agent string
	// AgentWait bounds how long the agent may take to say which keys it has; default 10
	// s. What it signs may wait for a person: see PersonWait.
	AgentWait time.Duration
	// Passphrase asks a person for the passphrase of a key; nil if nobody is there.
	Passphrase func(of string) ([]byte, error)
	// Known says whether a key is worth choosing when none is named; nil for any.
	Known func(fingerprint string) bool
	// Tell gets what gpg and ssh-keygen say to a person meanwhile ("touch the key"); nil
	// for nobody.
	Tell io.Writer
}

// pgpPrefix begins the name of a key of gpg's.
const pgpPrefix = "gpg:"

// Open finds the key of that name: a file's path, gpg:ID for a key that the gpg
// program knows by that ID, or "" for the only known one in the ssh-agent. Errors
// have code MESH0534 and a way out. ctx ends what runs for the key, also when it
// signs.
func Open(ctx context.Context, name string, o Options) (Key, error) {
	if id, ok := strings.CutPrefix(name, pgpPrefix); ok {
		return gpgKey(ctx, id)
	}
	if name == "" {
		return onlyInAgent(ctx, o)
	}
	raw, err := operatorfile.Read(name)
	if err != nil {
		return Key{}, problem(name, "give the file of a private key, of a public key that ssh-agent holds, or gpg:ID", "it cannot be read: %v", err)
	}
	switch text := string(raw); {
	case text == "":
		return Key{}, problem(name, "give the file of a private key, of a public key that ssh-agent holds, or gpg:ID", "it is empty")
	case strings.Contains(text, "BEGIN PGP PRIVATE KEY BLOCK"):
		return pgpFile(name, text, o)
	case strings.Contains(text, "PRIVATE KEY-----"):
		return sshFile(ctx, name, raw, o)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(raw)
	if err != nil {
		return Key{}, problem(name, "give an SSH or PGP private key, such as one made by ssh-keygen -t ed25519", "it is no key that signs")
	}
	return publicFile(ctx, name, pub, o)
}

func problem(name, fix, format string, args ...any) error {
	subject := "the signing key"
	if name != "" {
		subject += fmt.Sprintf(" %q", name)
	}
	return diag.List{diag.New(diag.CodeSigningKey, diag.Pos{File: name}, "%s: %s", subject, fmt.Sprintf(format, args...)).WithFix("%s", fix)}.Err()
}

// sshFile opens a private key of OpenSSH's or PEM form. An encrypted one that the
// agent has too is used there.
func sshFile(ctx context.Context, name string, raw []byte, o Options) (Key, error) {
	s, err := ssh.ParsePrivateKey(raw)
	if err == nil {
		return sshKey(name, s)
	}
	pub := publicOf(raw)
	if pub != nil && strings.HasPrefix(pub.Type(), "sk-") {
		return inHardware(ctx, name, pub, o)
	}
	var locked *ssh.PassphraseMissingError
	if !errors.As(err, &locked) {
		return Key{}, problem(name, "give an SSH or PGP private key, such as one made by ssh-keygen -t ed25519", "it cannot be read: %v", err)
	}
	if pub == nil {
		pub = locked.PublicKey
	}
	if pub != nil {
		if k, err := inAgent(ctx, pub, o); err == nil {
			return k, nil
		}
	}
	pass, err := ask(name, o)
	if err != nil {
		return Key{}, err
	}
	if s, err = ssh.ParsePrivateKeyWithPassphrase(raw, pass); err != nil {
		return Key{}, problem(name, "try again, or load the key into an ssh-agent: ssh-add "+name, "it does not open with that passphrase")
	}
	return sshKey(name, s)
}

// ask gets a passphrase from a person, or says what to do where there is none.
func ask(name string, o Options) ([]byte, error) {
	const fix = "run it in a terminal, set SSH_ASKPASS, or use a key of an agent: ssh-add, or gpg:ID for gpg-agent"
	if o.Passphrase == nil {
		return nil, problem(name, fix, "it has a passphrase, and nobody can be asked here")
	}
	pass, err := o.Passphrase(name)
	if err != nil {
		return nil, problem(name, fix, "it has a passphrase, and %v", err)
	}
	return pass, nil
}

// publicOf reads the public half that an OpenSSH private key has in the clear (PROTOCOL.key).
func publicOf(raw []byte) ssh.PublicKey {
	var locked *ssh.PassphraseMissingError
	if _, err := ssh.ParseRawPrivateKey(raw); errors.As(err, &locked) && locked.PublicKey != nil {
		return locked.PublicKey
	}
	return handleOf(raw)
}

// sshKey signs as git has ssh-keygen sign: namespace git, SHA-512.
func sshKey(name string, s ssh.Signer) (Key, error) {
	pub := s.PublicKey()
	sign := func(payload []byte) ([]byte, error) {
		sig, err := sshsig.Sign(bytes.NewReader(payload), s, sshsig.HashSHA512, "git")
		if err != nil {
			return nil, problem(name, "look after the agent or the security key, and try again", "it did not sign: %v", err)
		}
		return sshsig.Armor(sig), nil
	}
	return Key{ssh.FingerprintSHA256(pub), sign}, nil
}

// pgpFile opens an armored PGP private key.
func pgpFile(name, armored string, o Options) (Key, error) {
	ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(armored))
	if err != nil || len(ring) != 1 {
		return Key{}, problem(name, "give one armored private key: gpg --armor --export-secret-keys ID", "it is not one armored PGP key")
	}
	e := ring[0]
	if e.PrivateKey == nil {
		return Key{}, problem(name, "give one armored private key: gpg --armor --export-secret-keys ID", "its private part is missing")
	}
	if e.PrivateKey.Encrypted {
		pass, err := ask(name, o)
		if err != nil {
			return Key{}, err
		}
		if err := e.DecryptPrivateKeys(pass); err != nil {
			return Key{}, problem(name, "try again, or use it through gpg: gpg:ID", "it does not open with that passphrase")
		}
	}
	s, err := signature.NewOpenPGPSigner(e)
	if err != nil {
		return Key{}, problem(name, "give another key", "%v", err)
	}
	sign := func(payload []byte) ([]byte, error) { return s.Sign(bytes.NewReader(payload)) }
	return Key{strings.ToUpper(fmt.Sprintf("%x", e.PrimaryKey.Fingerprint)), sign}, nil
}
