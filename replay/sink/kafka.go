package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

// kafkaOptions are the options of the kind "kafka". docs/replay.md describes
// them.
type kafkaOptions struct {
	Brokers []string `json:"brokers"`         // host:port
	Topic   string   `json:"topic,omitempty"` // default "{stream}"
	// Format is "cloudevents", "payload" or "raw".
	Format string `json:"format,omitempty"`
	// Key is what keeps its order, and shares a partition: "aggregate", "stream"
	// or "none".
	Key         string `json:"key,omitempty"`
	Concurrency int    `json:"concurrency,omitempty"` // messages on their way; default 64
	TLS         bool   `json:"tls,omitempty"`
	// Mechanism is "plain", "scram-sha-256" or "scram-sha-512".
	Mechanism       string   `json:"mechanism,omitempty"`
	Username        string   `json:"username,omitempty"`
	Password        string   `json:"password,omitempty"`          // ${RESERVOIR_SINK_PASSWORD}
	MaxMessageBytes int      `json:"max_message_bytes,omitempty"` // default 1048588, the brokers' own
	Timeout         Duration `json:"timeout,omitempty"`           // of a request; default 30s
}

// The mechanisms of SASL.
const (
	mechanismPlain    = "plain"
	mechanismSCRAM256 = "scram-sha-256"
	mechanismSCRAM512 = "scram-sha-512"
)

// defaultMessageBytes is a broker's default of message.max.bytes.
const defaultMessageBytes = 1048588

func (o *kafkaOptions) topics() topicTemplate {
	return topicTemplate{text: o.Topic, allow: func(c rune) bool {
		return c < unicode.MaxASCII && (unicode.IsLetter(c) || unicode.IsDigit(c) || c == '.' || c == '_' || c == '-')
	}}
}

// validate fills in defaults and returns the first mistakes.
func (o *kafkaOptions) validate() error {
	if len(o.Brokers) == 0 {
		return remedy.Wrap(errors.New("there are no brokers"), "Name them before the topic: kafka://host:9092,host:9092/topic")
	}
	for i, b := range o.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			o.Brokers[i] = net.JoinHostPort(strings.Trim(b, "[]"), "9092")
		}
	}
	if o.Topic == "" {
		o.Topic = "{stream}"
	}
	if o.Timeout == 0 {
		o.Timeout = Duration(defaultRequestTimeout)
	}
	if o.Timeout < 0 {
		return fmt.Errorf("timeout is %s: it must be positive", time.Duration(o.Timeout))
	}
	if (o.Username == "") != (o.Password == "") {
		return errors.New("username and password go together")
	}
	return errors.Join(
		o.topics().check("topic"),
		oneOf("format", &o.Format, formatCloudEvents, formatPayload, formatRaw),
		oneOf("key", &o.Key, keyAggregate, keyStream, keyNone),
		oneOf("mechanism", &o.Mechanism, mechanismPlain, mechanismSCRAM256, mechanismSCRAM512),
		atLeast("concurrency", &o.Concurrency, 64, 1, 4096),
		atLeast("max_message_bytes", &o.MaxMessageBytes, defaultMessageBytes, 1024, 90<<20),
	)
}

// kafkaKind is the kind "kafka".
type kafkaKind struct{ config Config }

// NewKafka returns the kind "kafka": a message for each event, by Watermill's
// publisher. It is at least once; repeats carry the same idempotency-key.
func NewKafka(config Config) replay.SinkKind { return &kafkaKind{config} }

// Type implements replay.SinkKind.
func (*kafkaKind) Type() string { return "kafka" }

// Parse implements replay.SinkKind. The target is "broker,broker/topic", with or
// without "kafka://".
func (k *kafkaKind) Parse(target string, options map[string]string) (json.RawMessage, error) {
	brokers, topic, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(target, "kafka:"), "//"), "/")
	o := kafkaOptions{Topic: topic}
	for b := range strings.SplitSeq(brokers, ",") {
		if b != "" {
			o.Brokers = append(o.Brokers, b)
		}
	}
	return parseOptions(k.Type(), o, options)
}

// options reads and expands an Opening's options. missing is about a variable
// that is not set here.
func (k *kafkaKind) options(raw json.RawMessage) (o kafkaOptions, missing, err error) {
	if o, err = decodeOptions[kafkaOptions](k.Type(), raw); err == nil {
		missing, err = k.config.Environ.expandAll(&o.Username, &o.Password)
	}
	if err == nil {
		err = o.validate()
	}
	if err == nil {
		for _, b := range o.Brokers {
			err = errors.Join(err, k.config.AllowHosts.Check(b))
		}
	}
	if err != nil {
		return o, nil, fmt.Errorf("sink %s: %w", k.Type(), err)
	}
	return o, missing, nil
}

// Check implements replay.SinkKind. It asks the brokers for the topics.
func (k *kafkaKind) Check(ctx context.Context, opening replay.Opening) (replay.Target, error) {
	o, missing, err := k.options(opening.Options)
	if err == nil {
		err = noPressure(k.Type(), &opening)
	}
	if err != nil {
		return replay.Target{}, err
	}
	brokers := slices.Sorted(slices.Values(o.Brokers))
	topics, warnings := o.topics().all(opening.Streams)
	t := replay.Target{
		Key:         "kafka:" + strings.Join(brokers, ",") + "/" + o.Topic,
		Description: fmt.Sprintf("%s to topic %s on Kafka %s", o.Format, o.Topic, strings.Join(brokers, ",")),
		Guarantee:   replay.AtLeastOnce, Warnings: warnings,
	}
	t.Warnings = append(t.Warnings, inTheClear(opening.Options, "password")...)
	if o.Key == keyNone {
		t.Warnings = append(t.Warnings, "with key=none messages arrive in any order")
	}
	if missing != nil {
		t.Warnings = append(t.Warnings, missing.Error()+" here: the workers need it; the brokers were not asked for the topics")
	} else {
		err = k.checkTopics(ctx, &o, topics)
	}
	return t, err
}

// checkTopics asks the brokers whether the topics are there.
func (k *kafkaKind) checkTopics(ctx context.Context, o *kafkaOptions, topics []string) (err error) {
	client, err := sarama.NewClient(o.Brokers, k.client(ctx, o))
	if err != nil {
		return remedy.Wrapf(fmt.Errorf("ask Kafka for its topics: %w", err),
			"Start a broker at %s, or correct brokers, tls, mechanism, username and password; then try again.", strings.Join(o.Brokers, ","))
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	there, err := client.Topics()
	if err != nil {
		return fmt.Errorf("ask Kafka for its topics: %w", err)
	}
	for _, topic := range topics {
		if !slices.Contains(there, topic) {
			return remedy.Wrapf(fmt.Errorf("topic %s is not there", topic), "Create topic %s, or name another one; {stream} in it stands for the stream's name.", topic)
		}
	}
	return nil
}

// client is how the brokers are spoken to. Connections are made under ctx.
func (k *kafkaKind) client(ctx context.Context, o *kafkaOptions) *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID = "reservoir"
	c.Version = sarama.V2_1_0_0
	c.ApiVersionsRequest = true
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = dialTimeout, time.Duration(o.Timeout), time.Duration(o.Timeout)
	c.Net.MaxOpenRequests = 1 // in order, also over retries
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, hostDialer{ctx, k.config.AllowHosts}
	c.Net.TLS.Enable = o.TLS
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 2, 250*time.Millisecond
	c.Metadata.AllowAutoTopicCreation = false
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Timeout = time.Duration(o.Timeout)
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 3
	c.Producer.MaxMessageBytes = o.MaxMessageBytes
	if o.Username != "" {
		c.Net.SASL.Enable, c.Net.SASL.User, c.Net.SASL.Password = true, o.Username, o.Password
		scramLogin(c, o.Mechanism)
	}
	return c
}

// Open implements replay.SinkKind.
func (k *kafkaKind) Open(ctx context.Context, opening replay.Opening) (replay.Sink, error) {
	o, missing, err := k.options(opening.Options)
	if err == nil {
		err = missing
	}
	if err != nil {
		return nil, err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: o.Brokers, Marshaler: kafkaMarshaler{keyed: o.Key != keyNone},
		OverwriteSaramaConfig: k.client(context.WithoutCancel(ctx), &o),
	}, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("%w: connect to Kafka %s: %w", replay.ErrUnavailable, strings.Join(o.Brokers, ","), err)
	}
	return newBrokerSink(broker{
		topics: o.topics(), format: o.Format, order: o.Key, workers: o.Concurrency,
		publisher: publisher, judge: judgeKafka,
	}, k.config.Mapping, &opening), nil
}

// Clean implements replay.SinkKind: there is nothing at the brokers.
func (*kafkaKind) Clean(context.Context, replay.Opening) error { return nil }
