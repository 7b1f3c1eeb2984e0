//go:build !linux

package stack

import "syscall"

// ownGroup keeps a terminal's Ctrl-C from the child, whose owner stops it in order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
