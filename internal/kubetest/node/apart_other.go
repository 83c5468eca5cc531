//go:build !linux

package node

import "syscall"

func apart() *syscall.SysProcAttr { return nil }

func podApart() *syscall.SysProcAttr { return nil }

func group() *syscall.SysProcAttr { return nil }
