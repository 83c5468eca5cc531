package agent

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
)

// lockState makes the state folder private and takes it for this process; the
// system gives it back when the process ends, however it ends.
func lockState(dir string) (*os.File, error) {
	bad := func(err error) error {
		return problem(diag.New(diag.CodeAgentState, diag.Pos{}, "the state folder %q cannot be used: %v", dir, err).
			WithFix("name a folder that this user may write"))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, bad(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, bad(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, problem(diag.New(diag.CodeAgentState, diag.Pos{}, "another agent uses the state folder %q", dir).
				WithFix("give each agent a --state of its own"))
		}
		return nil, bad(err)
	}
	return f, nil
}

// instance is eight characters that tell this proxy from others of the same
// identity, the same for the life of the state folder.
func instance(dir string) (string, error) {
	path := filepath.Join(dir, "instance")
	b, err := os.ReadFile(path)
	if text := strings.TrimSpace(string(b)); err == nil && text != "" {
		return text, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the instance name: %w", err)
	}
	raw := make([]byte, 4)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("drawing an instance name: %w", err)
	}
	text := hex.EncodeToString(raw)
	return text, durable.WriteFile(path, []byte(text+"\n"), 0o600)
}

// listenUnix makes a socket for this user only. A socket left by a process
// that is gone is replaced; one that somebody serves is not.
func listenUnix(path string) (net.Listener, error) {
	bad := func(err error) error {
		return problem(diag.New(diag.CodeSocket, diag.Pos{}, "the socket %q cannot be made: %v", path, err).
			WithFix("choose a path in a folder of this agent's own"))
	}
	switch c, err := net.DialTimeout("unix", path, time.Second); {
	case err == nil:
		_ = c.Close()
		return nil, bad(errors.New("another process serves it"))
	case errors.Is(err, syscall.EAGAIN), os.IsTimeout(err):
		return nil, bad(errors.New("another process holds it and does not answer"))
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, bad(errors.New("there is something else than a socket"))
		}
		if err := os.Remove(path); err != nil {
			return nil, bad(err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, bad(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, bad(err)
	}
	return l, nil
}
