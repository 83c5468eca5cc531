package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// inHardware signs with a security key: through the agent if it has the key, else
// with ssh-keygen, which speaks to the device and asks for the touch.
func inHardware(ctx context.Context, name string, pub ssh.PublicKey, o Options) (Key, error) {
	if k, err := inAgent(ctx, pub, o); err == nil {
		return k, nil
	}
	sign := func(payload []byte) ([]byte, error) {
		out, said, err := run(ctx, payload, o.Tell, "ssh-keygen", "-Y", "sign", "-n", "git", "-f", name)
		if err != nil {
			return nil, problem(name, "plug the security key in and touch it when it blinks; ssh-keygen has to be able to reach it", "ssh-keygen did not sign: %s", reason(said, err))
		}
		return out, nil
	}
	return Key{ssh.FingerprintSHA256(pub), sign}, nil
}

// gpgKey signs with the gpg program, and so with gpg-agent, a pinentry or a card.
func gpgKey(ctx context.Context, id string) (Key, error) {
	name := pgpPrefix + id
	if id == "" || strings.HasPrefix(id, "-") {
		return Key{}, problem(name, "write gpg: and a key's ID, fingerprint or address", "it names no key")
	}
	listed, said, err := run(ctx, nil, nil, "gpg", "--batch", "--no-tty", "--with-colons", "--list-secret-keys", "--", id)
	if err != nil {
		return Key{}, problem(name, "see gpg --list-secret-keys", "gpg does not have it: %s", reason(said, err))
	}
	fingerprints := primaries(string(listed))
	if len(fingerprints) != 1 {
		return Key{}, problem(name, "name it by its fingerprint", "gpg has %d private keys of that name", len(fingerprints))
	}
	sign := func(payload []byte) ([]byte, error) {
		// As git does. The status says what happened; text around it is for people.
		out, said, err := run(ctx, payload, nil, "gpg", "--no-tty", "--status-fd=2", "--armor", "--detach-sign", "--local-user", fingerprints[0])
		if err == nil && !strings.Contains("\n"+said, "\n[GNUPG:] SIG_CREATED ") {
			err = errors.New("no signature was made")
		}
		if err != nil {
			return nil, problem(name, "unlock the key (a pinentry needs GPG_TTY=$(tty), or a desktop) and try again", "gpg did not sign: %s", reason(said, err))
		}
		return out, nil
	}
	return Key{fingerprints[0], sign}, nil
}

// primaries are the fingerprints of the primary keys in a listing with colons.
func primaries(listing string) []string {
	var out []string
	primary := false
	for line := range strings.SplitSeq(listing, "\n") {
		f := strings.Split(line, ":")
		switch {
		case f[0] == "sec":
			primary = true
		case f[0] == "fpr" && primary && len(f) > 9:
			out, primary = append(out, f[9]), false
		}
	}
	return out
}

// maxOutput bounds what is kept of what a program says.
const maxOutput = 1 << 20

// run runs a program to its end, which may wait for a person. What it says on stderr is
// also told as it comes.
func run(ctx context.Context, in []byte, tell io.Writer, name string, args ...string) (out []byte, said string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, PersonWait, fmt.Errorf("%s did not end within %s", name, PersonWait))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second // children of its own may hold its output
	cmd.Stdin = bytes.NewReader(in)
	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if tell != nil {
		cmd.Stderr = io.MultiWriter(&stderr, tell)
	}
	if err = cmd.Run(); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return stdout.b.Bytes(), stderr.b.String(), err
}

type bounded struct{ b bytes.Buffer }

func (w *bounded) Write(p []byte) (int, error) {
	w.b.Write(p[:min(len(p), maxOutput-w.b.Len())])
	return len(p), nil
}

// reason is the last thing that a program said before it failed.
func reason(said string, err error) string {
	last := ""
	for line := range strings.SplitSeq(said, "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "[GNUPG:]") {
			last = line
		}
	}
	if last == "" {
		return err.Error()
	}
	return fmt.Sprintf("%q", last)
}
