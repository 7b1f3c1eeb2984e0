//go:build !linux

package stack

func extendedAttributes(string) bool { return false }
