package sink

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"maps"
	"net"
	"slices"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/xdg-go/scram"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// kafkaMarshaler makes Kafka's messages: the headers are the metadata, the key
// is that of the order.
type kafkaMarshaler struct{ keyed bool }

// Marshal implements kafka.Marshaler.
func (m kafkaMarshaler) Marshal(topic string, msg *message.Message) (*sarama.ProducerMessage, error) {
	out := &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(msg.Payload)}
	if m.keyed {
		out.Key = sarama.StringEncoder(keyOf(msg))
	}
	for _, name := range slices.Sorted(maps.Keys(msg.Metadata)) {
		out.Headers = append(out.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(msg.Metadata[name])})
	}
	return out, nil
}

// judgeKafka says what an error of the brokers means.
func judgeKafka(err error) result {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	if tooLarge, ok := errors.AsType[sarama.ConfigurationError](err); ok { // the client's own bound
		return result{answer: never, err: tooLarge}
	}
	switch {
	case is(sarama.ErrMessageSizeTooLarge, sarama.ErrInvalidMessage, sarama.ErrInvalidRecord):
		return result{answer: never, err: err}
	case is(sarama.ErrUnknownTopicOrPartition, sarama.ErrInvalidTopic):
		return result{answer: barred, err: remedy.Wrap(err, "Create the topic, then resume the replay.")}
	case is(sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrSASLAuthenticationFailed):
		return result{answer: barred, err: remedy.Wrap(err, "Let the sink's user write to the topic, then resume the replay.")}
	case is(ErrHostNotAllowed):
		return result{answer: barred, err: err}
	default:
		return result{answer: later, err: err}
	}
}

// hostDialer connects to allowed hosts, for libraries whose dialers take no
// context.
type hostDialer struct {
	ctx   context.Context //nolint:containedctx // the libraries' interfaces take none
	hosts Hosts
}

// Dial connects to an address.
func (d hostDialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	return d.hosts.DialContext(ctx, network, address)
}

// scramLogin sets how to log in.
func scramLogin(c *sarama.Config, mechanism string) {
	switch mechanism {
	case mechanismPlain:
		c.Net.SASL.Mechanism = sarama.SASLTypePlaintext
	case mechanismSCRAM256:
		c.Net.SASL.Mechanism = sarama.SASLTypeSCRAMSHA256
		c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: sha256.New} }
	default:
		c.Net.SASL.Mechanism = sarama.SASLTypeSCRAMSHA512
		c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: sha512.New} }
	}
}

// scramClient logs in without showing the password.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

// Begin implements sarama.SCRAMClient.
func (c *scramClient) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClient(user, password, authzID)
	if err != nil {
		return err
	}
	c.conversation = client.NewConversation()
	return nil
}

// Step implements sarama.SCRAMClient.
func (c *scramClient) Step(challenge string) (string, error) { return c.conversation.Step(challenge) }

// Done implements sarama.SCRAMClient.
func (c *scramClient) Done() bool { return c.conversation.Done() }
