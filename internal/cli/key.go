package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/term"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/signing"
)

const keyUsage = "signing key: a private key's file, a public key's that ssh-agent holds, or gpg:ID (default: the trust policy's one key in ssh-agent)"

// openKey finds the signing key that somebody named, with the person's agents.
func openKey(ctx context.Context, name string, t approval.Trust) (signing.Key, error) {
	return signing.Open(ctx, name, signing.Options{
		Agent: os.Getenv("SSH_AUTH_SOCK"),
		Known: func(fingerprint string) bool {
			_, _, ok := t.KeyOwner(fingerprint)
			return ok
		},
		Passphrase: func(of string) ([]byte, error) { return passphrase(ctx, fmt.Sprintf("Passphrase of %s: ", of)) },
		Tell:       os.Stderr,
	})
}

// passphrase asks as ssh does: on the terminal, else through the program of
// SSH_ASKPASS; SSH_ASKPASS_REQUIRE puts one before the other.
func passphrase(ctx context.Context, prompt string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, signing.PersonWait, fmt.Errorf("nobody gave it within %s", signing.PersonWait))
	defer cancel()
	helper, how := os.Getenv("SSH_ASKPASS"), os.Getenv("SSH_ASKPASS_REQUIRE")
	if helper != "" && (how == "force" || how == "prefer") {
		return askpass(ctx, helper, prompt)
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err == nil {
		defer tty.Close()
		if err := printer.Fprint(tty, prompt); err != nil {
			return nil, err
		}
		pass, err := term.ReadPassword(int(tty.Fd()))
		return pass, errors.Join(err, printer.Fprint(tty, "\n"))
	}
	if helper != "" && how != "never" {
		return askpass(ctx, helper, prompt)
	}
	return nil, errors.New("there is no terminal to ask on and no SSH_ASKPASS")
}

// maxPassphrase bounds what a program may give for a passphrase.
const maxPassphrase = 4096

// askpass runs a program that asks a person. It ends when it has said too much, and
// with ctx.
func askpass(ctx context.Context, helper, prompt string) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, helper, prompt)
	cmd.WaitDelay = time.Second // children of its own may hold its output
	said := &limited{over: func() { cancel(fmt.Errorf("it says more than %d bytes", maxPassphrase)) }}
	cmd.Stdout = said
	if err := cmd.Run(); err != nil || ctx.Err() != nil {
		return nil, fmt.Errorf("SSH_ASKPASS %q gave none: %w", helper, cmp.Or(context.Cause(ctx), err))
	}
	return bytes.TrimRight(said.b, "\r\n"), nil
}

// limited keeps what is written to it, and calls over when that is too much.
type limited struct {
	b    []byte
	over func()
}

func (l *limited) Write(p []byte) (int, error) {
	if len(l.b)+len(p) > maxPassphrase {
		l.over()
		return len(p), nil
	}
	l.b = append(l.b, p...)
	return len(p), nil
}
