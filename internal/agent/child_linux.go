package agent

import "syscall"

// childAttributes: Envoy ends when the agent does, however it does; and a
// Ctrl-C in a terminal reaches the agent alone, which drains first.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
