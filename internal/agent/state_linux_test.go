package agent

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// TestBusySocketIsNotTaken: a socket whose process is too busy to accept is not
// one that a dead process left behind.
func TestBusySocketIsNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for { // fill the queue
		c, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	l, err := listenUnix(path)
	if err == nil {
		_ = l.Close()
		t.Fatal("the socket of another process was taken away")
	}
	wantCode(t, err, diag.CodeSocket)
}
