package stack

import "syscall"

// extendedAttributes says whether files in dir can have some.
func extendedAttributes(dir string) bool {
	return syscall.Setxattr(dir, "user.reservoir.try", []byte("x"), 0) == nil
}
