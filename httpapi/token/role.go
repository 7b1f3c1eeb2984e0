package token

import "fmt"

// Role is what a caller may do. Each includes the ones before it.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // looks
	Operator Role = "operator" // starts, stops and approves jobs
	Admin    Role = "admin"    // deals with tokens, sees the audit trail, drops tables
)

// ParseRole reads a role.
func ParseRole(text string) (Role, error) {
	r := Role(text)
	if r.rank() == 0 {
		return "", fmt.Errorf("%w: role %q: want viewer, operator or admin", ErrInvalid, text)
	}
	return r, nil
}

// Includes reports whether who has the role may do what needs the other one.
func (r Role) Includes(needed Role) bool { return r.rank() > 0 && r.rank() >= needed.rank() }

func (r Role) rank() int {
	switch r {
	case Viewer:
		return 1
	case Operator:
		return 2
	case Admin:
		return 3
	default:
		return 0
	}
}
