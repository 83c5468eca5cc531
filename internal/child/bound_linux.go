package child

import "syscall"

// bind: the signal follows the end of the thread that forked, and Go ends a thread only
// with a goroutine that stays locked to it.
func bind(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
