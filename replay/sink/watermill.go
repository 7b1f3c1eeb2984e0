package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

// The metadata of a message beside the envelope's attributes, FieldReplay,
// FieldStream and FieldID.
const (
	metaContentType = "content-type"
	metaKey         = "idempotency-key"
	metaIncarnation = "reservoir_incarnation"
)

// broker is what a kind that publishes by Watermill gives to a brokerSink.
type broker struct {
	topics    topicTemplate
	format    string
	order     string // what keeps its order
	workers   int
	publisher message.Publisher
	// judge says what an error of the publisher means.
	judge func(error) result
	// close ends what the publisher's Close leaves.
	close func() error
}

// brokerSink publishes a message for each event.
type brokerSink struct {
	broker
	replay    string
	encoder   *encoder
	extractor *event.Extractor
	courier   courier[outgoing]

	batch    *replay.Batch // being written
	arena    []byte        // its events, encoded
	messages []outgoing
}

// outgoing is one message and where it goes, in every attempt the same.
type outgoing struct {
	topic    string
	key      string // of the partition
	id       string
	payload  []byte
	metadata message.Metadata
	err      error // of its encoding
}

func newBrokerSink(b broker, mapping event.Mapping, opening *replay.Opening) *brokerSink {
	s := &brokerSink{
		broker: b, replay: opening.Replay,
		encoder: newEncoder(b.format, opening.Replay, mapping), extractor: mapping.Extractor(),
	}
	s.courier = courier[outgoing]{
		retry: withDefaults(opening.Retry), workers: b.workers,
		prepare: func(indices []int) (outgoing, error) { m := s.messages[indices[0]]; return m, m.err },
		send:    s.send, keep: keepMessage,
	}
	return s
}

// Position implements replay.Sink: a broker keeps none.
func (*brokerSink) Position(context.Context) (replay.Position, error) {
	return replay.Position{}, nil
}

// WantsKeys implements replay.Keyer.
func (*brokerSink) WantsKeys() bool { return true }

// Close implements replay.Sink.
func (s *brokerSink) Close() error {
	if s.publisher == nil {
		return nil
	}
	err := s.publisher.Close()
	if s.close != nil {
		err = errors.Join(err, s.close())
	}
	s.publisher = nil
	return err
}

// Write implements replay.Sink.
func (s *brokerSink) Write(ctx context.Context, b *replay.Batch) error {
	s.encode(b)
	return s.courier.deliver(ctx, newQueues(b, s.order, s.workers, 1, false))
}

// encode makes the messages of a batch.
func (s *brokerSink) encode(b *replay.Batch) {
	s.batch, s.arena, s.messages = b, s.arena[:0], s.messages[:0]
	var (
		e    event.Event
		env  event.Envelope
		ends = make([]int, b.Len())
	)
	for i := range b.Len() {
		b.Event(i, &e)
		o := &b.Origins[i]
		m := outgoing{topic: s.topics.of(o.Stream), key: o.Key, id: eventKey(o)}
		if m.key == "" || s.order == keyStream {
			m.key = o.Stream
		}
		s.arena, m.err = s.encoder.append(s.arena, &e, o)
		ends[i] = len(s.arena)
		s.extractor.Extract(&e, &env)
		m.metadata = s.metadata(&env, o, m.id)
		s.messages = append(s.messages, m)
	}
	start := 0 // the arena no longer moves
	for i, end := range ends {
		s.messages[i].payload = s.arena[start:end:end]
		start = end
	}
}

// metadata is the envelope, and where the event comes from.
func (s *brokerSink) metadata(env *event.Envelope, o *replay.Origin, id string) message.Metadata {
	m := message.Metadata{
		metaKey: id, FieldReplay: s.replay, FieldStream: o.Stream, FieldID: o.ID.String(),
		metaIncarnation: strconv.Itoa(o.Incarnation), metaContentType: contentTypes()[s.format],
	}
	for a := range event.Payload {
		if value, ok := env.Get(a); ok && len(value) > 0 {
			m[a.String()] = strings.ToValidUTF8(string(value), "\ufffd")
		}
	}
	if s.format == formatPayload {
		delete(m, metaContentType) // it is what the producer made it
	}
	return m
}

func contentTypes() map[string]string {
	return map[string]string{formatRaw: "application/json", formatCloudEvents: "application/cloudevents+json; charset=utf-8"}
}

// send makes one attempt.
func (s *brokerSink) send(ctx context.Context, m outgoing) result {
	if err := ctx.Err(); err != nil {
		return result{answer: later, err: err}
	}
	msg := message.NewMessage(m.id, m.payload)
	msg.Metadata = m.metadata
	msg.SetContext(context.WithValue(ctx, partitionKey{}, m.key))
	if err := s.publisher.Publish(m.topic, msg); err != nil {
		return s.judge(fmt.Errorf("publish to %s: %w", m.topic, err))
	}
	return result{answer: taken}
}

// partitionKey is what the context of a message has the key of its partition by.
type partitionKey struct{}

// keyOf is the key of a message's partition.
func keyOf(m *message.Message) string {
	key, ok := m.Context().Value(partitionKey{}).(string)
	if !ok {
		return ""
	}
	return key
}

// keepMessage copies a message out of the arena.
func keepMessage(m outgoing) outgoing {
	m.payload = bytes.Clone(m.payload)
	return m
}

// topicTemplate makes the names of topics: {stream} stands for the stream's.
type topicTemplate struct {
	text  string
	allow func(c rune) bool // characters of a topic; others become "_"
}

func (t topicTemplate) of(stream string) string {
	return strings.ReplaceAll(t.text, "{stream}", strings.Map(func(c rune) rune {
		if t.allow(c) {
			return c
		}
		return '_'
	}, stream))
}

// check returns the first mistake in the template.
func (t topicTemplate) check(option string) error {
	for _, c := range strings.ReplaceAll(t.text, "{stream}", "") {
		if !t.allow(c) {
			return fmt.Errorf("%s is %q: it cannot hold %q; {stream} stands for the stream's name", option, t.text, c)
		}
	}
	return nil
}

// all returns the topics of a replay, and warns of streams that share one
// although the template tells them apart.
func (t topicTemplate) all(streams []replay.StreamRange) (topics, warnings []string) {
	first := map[string]string{}
	for _, s := range streams {
		topic := t.of(s.Stream)
		if other, shared := first[topic]; !shared {
			first[topic] = s.Stream
			topics = append(topics, topic)
		} else if strings.Contains(t.text, "{stream}") {
			warnings = append(warnings, fmt.Sprintf("streams %q and %q both go to %s: some characters of their names cannot be in its name", other, s.Stream, topic))
		}
	}
	return topics, warnings
}
