package node

import (
	"os"
	"syscall"
)

// owner is whose a file is, as this user namespace sees it.
func owner(st os.FileInfo) int { return int(st.Sys().(*syscall.Stat_t).Uid) }

// apart: the node and all that it starts are in namespaces of their own. When the first
// process of a process namespace ends, the kernel ends all others, and then the network
// goes with its links.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL, Setpgid: true,
	}
}

// podApart: what the containers of a pod share.
func podApart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC, Setpgid: true}
}

// group: a container leads a process group, which ends with it.
func group() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
