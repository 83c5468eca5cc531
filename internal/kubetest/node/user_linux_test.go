package node_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Root of a user namespace is enough, if it has users to give to containers.
func TestANodeRunsInAUserNamespace(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// As unshare --map-auto does: each of the two may be another range outside.
	all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 1, Size: 1<<16 - 1}}
	cmd := exec.Command("sh", "-c", `ip link set lo up; exec "$0" "$1"`, self, hold)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true, Pdeathsig: syscall.SIGKILL,
	}
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	w := &world{t: t}
	w.eventually(func(context.Context) error {
		select {
		case err := <-ended:
			t.Fatalf("the program ended: %v", err)
		default:
		}
		if n := daemons(); n != 2 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	_ = cmd.Process.Kill()
	w.eventually(func(context.Context) error { return nothingLeft("") })
}

// What an unprivileged user can make with the users of /etc/subuid has not this machine's
// root, to whom its files belong.
func TestANodeNeedsTheMachinesRoot(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Open(self) // its folder is not everybody's
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	lent := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1 << 16}}
	cmd := exec.Command("/proc/self/fd/3", ask)
	cmd.ExtraFiles, cmd.Dir = []*os.File{program}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: lent, GidMappings: lent, GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
	}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "does not have the root of this machine") {
		t.Errorf("%q, %v", out, err)
	}
}
