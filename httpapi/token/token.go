// Package token keeps the bearer tokens of the API on the object store: one
// document per token, which holds a hash of its secret and never the secret
// itself. Whoever can write to the bucket can make tokens: it is the root of
// trust, as it is for the archive.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

var (
	// ErrInvalid is wrapped where a new token cannot be made as it is asked for.
	ErrInvalid = errors.New("invalid token")
	// ErrNotFound is wrapped where no token has an ID.
	ErrNotFound = errors.New("token not found")
	// ErrRejected is wrapped by Verify for what is not, or not any more, a token.
	// The text says no more than that: who guesses learns nothing.
	ErrRejected = errors.New("token is not valid")
)

// FormatVersion is the version of the documents that this package writes, and the
// newest that it reads.
const FormatVersion = 1

// Prefix begins the text of every token, so that scanners for leaked secrets find it.
const Prefix = "rsv_"

// secretBytes is the length of a secret: 256 random bits need no slow hash.
const secretBytes = 32

// Token is the document of one token.
type Token struct {
	Version int    `json:"version"`
	ID      string `json:"id"` // a ULID: sorts by creation
	Name    string `json:"name"`
	Role    Role   `json:"role"`
	// Streams, if any, are patterns of the streams that it is restricted to (see
	// event.MatchPattern), and Tenants the tenants.
	Streams []string `json:"streams,omitempty"`
	Tenants []string `json:"tenants,omitempty"`

	// Hash is the SHA-256 of the secret, hex.
	Hash string `json:"hash"`

	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	RevokedBy string    `json:"revoked_by,omitempty"`
}

// State says whether a token can be used.
type State string

// The states.
const (
	Valid   State = "valid"
	Expired State = "expired"
	Revoked State = "revoked"
)

// State returns the token's state at a time.
func (t *Token) State(now time.Time) State {
	switch {
	case !t.RevokedAt.IsZero():
		return Revoked
	case !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt):
		return Expired
	default:
		return Valid
	}
}

// New is what a token is made from. Name and Role are required.
type New struct {
	Name             string
	Role             Role
	Streams, Tenants []string
	ExpiresAt        time.Time // zero: never
	CreatedBy        string
}

// Limits of New.
const (
	maxName  = 128
	maxEntry = 1024
	maxList  = 100
)

// Validate returns every mistake, joined; each wraps ErrInvalid.
func (n *New) Validate(now time.Time) error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...)))
	}
	if name := strings.TrimSpace(n.Name); name == "" || len(name) > maxName {
		wrong("name: want 1 to %d bytes", maxName)
	}
	if _, err := ParseRole(string(n.Role)); err != nil {
		errs = append(errs, err)
	}
	if !n.ExpiresAt.IsZero() && !n.ExpiresAt.After(now) {
		wrong("expires_at %s: want a time to come", n.ExpiresAt.Format(time.RFC3339))
	}
	for what, list := range map[string][]string{"streams": n.Streams, "tenants": n.Tenants} {
		if len(list) > maxList {
			wrong("%s: %d are too many: want at most %d", what, len(list), maxList)
		}
		for _, entry := range list {
			if entry == "" || len(entry) > maxEntry {
				wrong("%s: want entries of 1 to %d bytes", what, maxEntry)
			}
		}
	}
	return errors.Join(errs...)
}

func (n *New) token(now time.Time) (t *Token, text string) {
	raw := make([]byte, secretBytes)
	rand.Read(raw)
	secret := encoding().EncodeToString(raw)
	t = &Token{
		Version: FormatVersion, ID: ulid.MustNewDefault(now).String(), Name: strings.TrimSpace(n.Name), Role: n.Role, Streams: n.Streams, Tenants: n.Tenants,
		Hash: hash(secret), CreatedAt: now.UTC(), CreatedBy: n.CreatedBy,
	}
	if !n.ExpiresAt.IsZero() {
		t.ExpiresAt = n.ExpiresAt.UTC()
	}
	return t, Prefix + t.ID + "_" + secret
}

func encoding() *base32.Encoding { return base32.StdEncoding.WithPadding(base32.NoPadding) }

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// fits compares in constant time.
func (t *Token) fits(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash(secret))) == 1
}

// split takes the text of a token apart.
func split(text string) (id, secret string, err error) {
	rest, ok := strings.CutPrefix(text, Prefix)
	id, secret, cut := strings.Cut(rest, "_")
	if !ok || !cut || CheckID(id) != nil || len(secret) != encoding().EncodedLen(secretBytes) {
		return "", "", ErrRejected
	}
	return id, secret, nil
}

// CheckID says whether id is one that a token could have.
func CheckID(id string) error {
	u, err := ulid.ParseStrict(id)
	if err != nil || u.String() != id {
		return fmt.Errorf("%w: %q is no ID of a token", ErrInvalid, id)
	}
	return nil
}
