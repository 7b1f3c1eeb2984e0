package rebuild

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/projection"
)

// Way is how events come to ClickHouse.
type Way string

// The ways.
const (
	// WayAuto lets ClickHouse read the archive itself where it can, and else
	// streams the events through this process. Where its user only lacks the grant for
	// that, the rebuild is refused.
	WayAuto Way = "auto"
	// WayPushdown lets ClickHouse read the archive itself; where it cannot, that is
	// an error.
	WayPushdown Way = "pushdown"
	// WayGo streams the events through this process.
	WayGo Way = "go"
)

// DefaultConcurrency is the default of Spec.Concurrency.
const DefaultConcurrency = 2

// Spec says what to rebuild, and how. The zero values are the defaults.
type Spec struct {
	Projection string `json:"projection"`
	// Scope narrows the rebuild to a part of the table; the rest is carried over.
	Scope Scope `json:"scope,omitzero"`
	// Approval overrides that of the definition.
	Approval projection.Approval `json:"approval,omitempty"`
	// Concurrency is how many chunks are loaded at once.
	Concurrency int `json:"concurrency,omitempty"`
	// Rate bounds the events that are loaded a second, and those that the table catches up
	// with: it has to be more than what comes in. 0: no bound.
	Rate float64 `json:"rate,omitempty"`
	Way  Way     `json:"way,omitempty"`
	// Format is what is read of the archive where both are there; default Parquet.
	Format archive.Format `json:"format,omitempty"`
}

// Scope is a part of a table: the rows of some tenants, of some aggregates, or of
// a time window. The definition names the columns that hold these. What is set
// narrows it.
type Scope struct {
	Tenants    []string `json:"tenants,omitempty"`
	Aggregates []string `json:"aggregates,omitempty"`
	// From and To bound when events occurred; From belongs to it, To does not. Both
	// are cut to microseconds.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
}

// IsZero reports whether the scope is the whole table.
func (s *Scope) IsZero() bool {
	return len(s.Tenants) == 0 && len(s.Aggregates) == 0 && s.From.IsZero() && s.To.IsZero()
}

// ErrInvalid is wrapped by every error that says that a Spec cannot be used as it is.
var ErrInvalid = errors.New("invalid rebuild")

// validate completes a spec, for a definition.
func (s *Spec) validate(d *projection.Definition) error {
	if s.Approval == "" {
		s.Approval = d.Approval
	}
	if s.Approval == "" {
		s.Approval = projection.Required
	}
	if s.Concurrency == 0 {
		s.Concurrency = DefaultConcurrency
	}
	if s.Way == "" {
		s.Way = WayAuto
	}
	if s.Format == "" {
		s.Format = archive.Parquet
	}
	switch {
	case s.Approval != projection.Automatic && s.Approval != projection.Required:
		return fmt.Errorf("%w: approval is %q, and must be %q or %q", ErrInvalid, s.Approval, projection.Automatic, projection.Required)
	case s.Concurrency < 1 || s.Concurrency > 64:
		return fmt.Errorf("%w: concurrency is %d, and must be between 1 and 64", ErrInvalid, s.Concurrency)
	case !(s.Rate >= 0 && s.Rate <= math.MaxFloat64): // nor NaN
		return fmt.Errorf("%w: rate is %v, and must be a positive number, or 0 for none", ErrInvalid, s.Rate)
	case s.Way != WayAuto && s.Way != WayPushdown && s.Way != WayGo:
		return fmt.Errorf("%w: way is %q, and must be %q, %q or %q", ErrInvalid, s.Way, WayAuto, WayPushdown, WayGo)
	case s.Format != archive.Parquet && s.Format != archive.JSONL:
		return fmt.Errorf("%w: format is %q, and must be %q or %q", ErrInvalid, s.Format, archive.Parquet, archive.JSONL)
	case s.Way == WayPushdown && d.Kind != projection.SQL:
		return fmt.Errorf("%w: %s is a projection in Go: its events cannot be pushed down", ErrInvalid, d.Name)
	case s.Way == WayPushdown && s.Format != archive.Parquet:
		return fmt.Errorf("%w: only Parquet can be pushed down", ErrInvalid)
	case s.Way == WayPushdown && d.Upcast:
		return fmt.Errorf("%w: the events of %s go through upcasters, which run in this process: they cannot be pushed down", ErrInvalid, d.Name)
	}
	return s.Scope.validate(d)
}

func (s *Scope) validate(d *projection.Definition) error {
	for _, part := range []struct {
		set          bool
		what, column string
	}{
		{len(s.Tenants) > 0, "tenant", d.Scope.Tenant},
		{len(s.Aggregates) > 0, "aggregate", d.Scope.Aggregate},
		{!s.From.IsZero() || !s.To.IsZero(), "time", d.Scope.Time},
	} {
		if part.set && part.column == "" {
			return fmt.Errorf("%w: %s cannot be rebuilt by %s: its definition names no scope.%s column", ErrInvalid, d.Name, part.what, part.what)
		}
	}
	if !s.From.IsZero() && !s.To.IsZero() && !s.From.Before(s.To) {
		return fmt.Errorf("%w: the time window of the scope is empty", ErrInvalid)
	}
	s.From, s.To = s.From.UTC().Truncate(time.Microsecond), s.To.UTC().Truncate(time.Microsecond)
	return nil
}
