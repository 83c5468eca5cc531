//go:build !linux

package agent

import "syscall"

// childAttributes: outside Linux nothing ties Envoy to an agent that was
// killed; it must be ended by hand then.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
