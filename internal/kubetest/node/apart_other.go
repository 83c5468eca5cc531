//go:build !linux

package node

import (
	"os"
	"syscall"
)

func owner(os.FileInfo) int { return 0 }

func apart() *syscall.SysProcAttr { return nil }

func podApart() *syscall.SysProcAttr { return nil }

func group() *syscall.SysProcAttr { return nil }
