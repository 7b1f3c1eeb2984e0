package event

import (
	"errors"
	"fmt"
)

// Mapping says which fields of an entry are its envelope. For every attribute
// it lists names of fields, the most wanted first: the first name that an entry
// has is the source, and of several fields of that name the first one. The zero
// value takes the names of DefaultMapping.
//
// Names are compared without regard to the case of ASCII letters and to "-",
// "_", ".", ":" and spaces: event_type is also eventType, Event-Type and
// EVENT.TYPE.
//
// A list that is not empty replaces the default names of its attribute, and a
// name in it is no longer a default name of any other one. The list ["-"] says
// that no field holds the attribute.
//
// An event may also lie as one JSON object (a document) in a single field, as
// CloudEvents do in structured mode. Its members then are taken by the same
// names as fields are; see Document.
type Mapping struct {
	EventID          []string `json:"event_id,omitempty" yaml:"event_id,omitempty" koanf:"event_id"`
	EventType        []string `json:"event_type,omitempty" yaml:"event_type,omitempty" koanf:"event_type"`
	Tenant           []string `json:"tenant,omitempty" yaml:"tenant,omitempty" koanf:"tenant"`
	AggregateType    []string `json:"aggregate_type,omitempty" yaml:"aggregate_type,omitempty" koanf:"aggregate_type"`
	AggregateID      []string `json:"aggregate_id,omitempty" yaml:"aggregate_id,omitempty" koanf:"aggregate_id"`
	AggregateVersion []string `json:"aggregate_version,omitempty" yaml:"aggregate_version,omitempty" koanf:"aggregate_version"`
	OccurredAt       []string `json:"occurred_at,omitempty" yaml:"occurred_at,omitempty" koanf:"occurred_at"`
	CorrelationID    []string `json:"correlation_id,omitempty" yaml:"correlation_id,omitempty" koanf:"correlation_id"`
	CausationID      []string `json:"causation_id,omitempty" yaml:"causation_id,omitempty" koanf:"causation_id"`
	SchemaVersion    []string `json:"schema_version,omitempty" yaml:"schema_version,omitempty" koanf:"schema_version"`
	Payload          []string `json:"payload,omitempty" yaml:"payload,omitempty" koanf:"payload"`

	// Document lists names of fields that hold a whole event as a JSON object;
	// a value that is none is an ordinary field. Without it a document is
	// recognised in the only field of an entry, when it is an object with an
	// event ID or type, and beside a content_type of application/cloudevents,
	// in the payload field. ["-"] turns that off as well.
	Document []string `json:"document,omitempty" yaml:"document,omitempty" koanf:"document"`
}

// none in place of a list of names says that there is no such field.
const none = "-"

// DefaultMapping returns the names that the zero Mapping stands for. They cover
// the attributes of CloudEvents in both modes (binary as ce_… or cloudEvents:…)
// but "source", which names a producer. Segments hold columns that were filled
// by these names, and are pruned by them: other defaults are another format.
func DefaultMapping() Mapping {
	return Mapping{
		EventID: []string{"event_id", "id", "uuid", "ce_id", "cloudEvents:id", "message_id"},
		EventType: []string{"event_type", "type", "ce_type", "cloudEvents:type", "event", "event_name",
			"message_type", "name"},
		Tenant: []string{"tenant", "tenant_id", "ce_tenant", "ce_tenantid", "org_id", "organization_id",
			"account_id"},
		AggregateType: []string{"aggregate_type", "entity_type", "stream_type", "ce_aggregatetype"},
		AggregateID: []string{"aggregate_id", "entity_id", "subject", "ce_subject", "cloudEvents:subject",
			"stream_id", "ce_partitionkey", "partition_key", "key"},
		AggregateVersion: []string{"aggregate_version", "version", "sequence", "ce_sequence", "seq", "revision"},
		OccurredAt: []string{"occurred_at", "timestamp", "ts", "time", "ce_time", "cloudEvents:time",
			"event_time", "created_at"},
		CorrelationID: []string{"correlation_id", "ce_correlationid", "trace_id", "request_id"},
		CausationID:   []string{"causation_id", "ce_causationid", "cause_id"},
		SchemaVersion: []string{"schema_version", "event_version", "ce_dataschema", "cloudEvents:dataschema",
			"dataschema"},
		Payload: []string{"payload", "data", "body", "value", "json"},
	}
}

// lists returns the names by attribute.
func (m *Mapping) lists() [NumAttributes][]string {
	return [NumAttributes][]string{
		EventID:       m.EventID,
		Type:          m.EventType,
		Tenant:        m.Tenant,
		AggregateType: m.AggregateType,
		AggregateID:   m.AggregateID,
		Version:       m.AggregateVersion,
		OccurredAt:    m.OccurredAt,
		CorrelationID: m.CorrelationID,
		CausationID:   m.CausationID,
		SchemaVersion: m.SchemaVersion,
		Payload:       m.Payload,
	}
}

// Validate returns every mistake in the mapping: names that compare equal to
// nothing or that are listed twice, and "-" beside other names.
func (m Mapping) Validate() error {
	var errs []error
	seen := make(map[string]string) // folded name → the attribute that lists it
	for a, names := range m.lists() {
		attribute := Attribute(a).String()
		for _, name := range names {
			if err := validateName(attribute, name, names); err != nil {
				errs = append(errs, err)
				continue
			}
			folded := string(fold(nil, name))
			switch other, taken := seen[folded]; {
			case name == none:
			case taken && other == attribute:
				errs = append(errs, fmt.Errorf("%s: %q is listed twice (case and separators do not count): remove one",
					attribute, name))
			case taken:
				errs = append(errs, fmt.Errorf("%s: %q is listed under %s as well: a name belongs to one attribute",
					attribute, name, other))
			default:
				seen[folded] = attribute
			}
		}
	}
	for _, name := range m.Document {
		if err := validateName("document", name, m.Document); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func validateName(key, name string, names []string) error {
	switch {
	case name == none && len(names) == 1:
		return nil
	case name == none:
		return fmt.Errorf("%s: %q says that there is no such field: use it alone or not at all", key, name)
	case len(fold(nil, name)) == 0:
		return fmt.Errorf("%s: %q is not a name that can be compared: want one with a letter or digit", key, name)
	default:
		return nil
	}
}

// target is what a name stands for.
type target struct {
	attribute Attribute
	rank      int // among the names of the attribute, the lowest wins
}

// targets returns what each folded name stands for.
func (m *Mapping) targets() map[string]target {
	out := make(map[string]target)
	add := func(a Attribute, names []string) {
		for rank, name := range names {
			folded := string(fold(nil, name))
			if _, taken := out[folded]; !taken && name != none {
				out[folded] = target{a, rank}
			}
		}
	}
	configured, defaults := m.lists(), DefaultMapping()
	for a, names := range configured {
		add(Attribute(a), names)
	}
	for a, names := range defaults.lists() {
		if len(configured[a]) == 0 {
			add(Attribute(a), names)
		}
	}
	return out
}

// fold appends name in the form that is compared.
func fold[S string | []byte](dst []byte, name S) []byte {
	for i := range len(name) {
		switch c := name[i]; c {
		case '-', '_', '.', ':', ' ':
		default:
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
		}
	}
	return dst
}
