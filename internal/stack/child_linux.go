package stack

import "syscall"

// ownGroup keeps a terminal's Ctrl-C from the child, whose owner stops it in order,
// and has the kernel end the child when its parent dies.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
