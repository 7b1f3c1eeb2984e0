package upcast

import (
	"errors"
	"fmt"
	"slices"
)

// link checks the rules and finds each by its type and version.
func (s *Set) link() error {
	var errs []error
	for _, r := range s.order {
		if err := r.check(); err != nil {
			errs = append(errs, r.errorf("%w", err))
			continue
		}
		if other := s.find(r.Type, r.From); other != nil {
			errs = append(errs, r.errorf("there is a rule for %s %s already, at %s: remove one", r.Type, versionText(r.From), other.Source()))
			continue
		}
		s.rules[r.Type] = append(s.rules[r.Type], r)
		s.sizes |= 1 << (len(r.Type) % 64)
	}
	if len(errs) == 0 {
		errs = append(errs, s.checkCycles()...)
	}
	if len(errs) == 0 { // chains have ends only without cycles
		errs = append(errs, s.checkEnds()...)
	}
	return errors.Join(errs...)
}

// check looks at a rule by itself.
func (r *Rule) check() error {
	switch {
	case r.Type == "":
		return errors.New("type: which event type is it for?")
	case r.To == "" && r.NewType == "":
		return errors.New("to: to which schema version does it bring the event?")
	case r.toType() == r.Type && r.toVersion() == r.From:
		return fmt.Errorf("to: it leads from %s to the same version", versionText(r.From))
	case r.Func != nil && r.Name == "":
		return errors.New("a rule with a Func needs a Name, which stands for what it does")
	case r.Func == nil && r.Name != "":
		return fmt.Errorf("%q has no Func", r.Name)
	default:
		return nil
	}
}

func (r *Rule) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", r.Source(), fmt.Errorf(format, args...))
}

// checkCycles reports every cycle once.
func (s *Set) checkCycles() (errs []error) {
	done := make(map[*Rule]bool)
	for _, start := range s.order {
		var path []*Rule
		for r := start; r != nil && !done[r]; r = s.next(r) {
			if at := slices.Index(path, r); at >= 0 {
				text := ""
				for _, on := range path[at:] {
					text += fmt.Sprintf("%s %s → ", on.Type, versionText(on.From))
				}
				errs = append(errs, r.errorf("it is part of a cycle that never ends: %s%s %s", text, r.Type, versionText(r.From)))
				break
			}
			path = append(path, r)
		}
		for _, r := range path {
			done[r] = true
		}
	}
	return errs
}

// checkEnds reports chains that stop short: all events of a type, and all that
// become events of a type, end as the same version of it.
func (s *Set) checkEnds() (errs []error) {
	last := func(r *Rule) *Rule {
		for next := s.next(r); next != nil; next = s.next(r) {
			r = next
		}
		return r
	}
	reported := make(map[*Rule]bool)
	compare := func(seen map[string]*Rule, key string, end *Rule) {
		other := seen[key]
		switch {
		case other == nil:
			seen[key] = end
		case other.toType() == end.toType() && other.toVersion() == end.toVersion() || reported[end] || reported[other]:
		default:
			reported[end] = true
			errs = append(errs, end.errorf("%s ends there, but %s (%s) leads elsewhere: every event of a type must end in one version; add the rule that is missing",
				end, other, other.Source()))
		}
	}
	from, to := make(map[string]*Rule), make(map[string]*Rule)
	for _, r := range s.order {
		end := last(r)
		compare(from, r.Type, end)
		compare(to, end.toType(), end)
	}
	return errs
}
