package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

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

func askpass(ctx context.Context, helper, prompt string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, helper, prompt).Output()
	if err != nil {
		return nil, fmt.Errorf("SSH_ASKPASS %q gave none: %w", helper, err)
	}
	return []byte(strings.TrimRight(string(out), "\r\n")), nil
}
