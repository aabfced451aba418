//go:build unix && !linux

package stack

import "syscall"

// Only Linux ends children whose parent has died.
func childAttributes(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
