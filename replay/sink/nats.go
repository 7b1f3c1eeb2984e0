package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/nats-io/nats.go"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

// natsOptions are the options of the kind "nats". docs/replay.md describes them.
type natsOptions struct {
	Servers []string `json:"servers"`           // nats://host:port or tls://host:port
	Subject string   `json:"subject,omitempty"` // default "{stream}"
	// Format is "cloudevents", "payload" or "raw".
	Format string `json:"format,omitempty"`
	// Key is what keeps its order: "aggregate", "stream" or "none".
	Key         string   `json:"key,omitempty"`
	Concurrency int      `json:"concurrency,omitempty"` // messages on their way; default 64
	Token       string   `json:"token,omitempty"`       // ${RESERVOIR_SINK_TOKEN}
	Username    string   `json:"username,omitempty"`
	Password    string   `json:"password,omitempty"` // ${RESERVOIR_SINK_PASSWORD}
	JWT         string   `json:"jwt,omitempty"`      // with the seed of its key
	Seed        string   `json:"seed,omitempty"`     // ${RESERVOIR_SINK_SEED}
	Timeout     Duration `json:"timeout,omitempty"`  // of an acknowledgement; default 5s
}

func (o *natsOptions) subjects() topicTemplate {
	return topicTemplate{text: o.Subject, allow: func(c rune) bool {
		return c != '*' && c != '>' && unicode.IsPrint(c) && !unicode.IsSpace(c)
	}}
}

// validate fills in defaults and returns the first mistakes.
func (o *natsOptions) validate() error {
	if len(o.Servers) == 0 {
		return remedy.Wrap(errors.New("there are no servers"), "Name one: nats://host:4222/subject")
	}
	for _, s := range o.Servers {
		if _, err := serverAddress(s); err != nil {
			return err
		}
	}
	if o.Subject == "" {
		o.Subject = "{stream}"
	}
	if o.Timeout == 0 {
		o.Timeout = Duration(5 * time.Second)
	}
	if o.Timeout < 0 {
		return fmt.Errorf("timeout is %s: it must be positive", time.Duration(o.Timeout))
	}
	return errors.Join(
		o.subjects().check("subject"),
		oneOf("format", &o.Format, formatCloudEvents, formatPayload, formatRaw),
		oneOf("key", &o.Key, keyAggregate, keyStream, keyNone),
		atLeast("concurrency", &o.Concurrency, 64, 1, 4096),
	)
}

// serverAddress is the host:port of a server.
func serverAddress(server string) (string, error) {
	u, err := url.Parse(server)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls":
		return "", errors.New("a server is not nats://host:port or tls://host:port")
	case u.User != nil:
		return "", remedy.Wrap(errors.New("a server's URL holds a user or a password"), "Give the options username and password=${RESERVOIR_SINK_PASSWORD}.")
	case u.Port() == "":
		return net.JoinHostPort(u.Hostname(), "4222"), nil
	}
	return u.Host, nil
}

// natsKind is the kind "nats".
type natsKind struct{ config Config }

// NewNATS returns the kind "nats": a message for each event into JetStream, by
// Watermill's publisher. It is at least once, and carries a Nats-Msg-Id that is
// the same in every repeat: within the duplicate window of its stream, JetStream
// keeps the first only.
func NewNATS(config Config) replay.SinkKind { return &natsKind{config} }

// Type implements replay.SinkKind.
func (*natsKind) Type() string { return "nats" }

// Parse implements replay.SinkKind. The target is "host:port/subject", several
// servers separated by commas, with or without "nats://" or "tls://".
func (k *natsKind) Parse(target string, options map[string]string) (json.RawMessage, error) {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok {
		scheme, rest = "nats", strings.TrimPrefix(target, "//")
	}
	servers, subject, _ := strings.Cut(rest, "/")
	o := natsOptions{Subject: subject}
	for s := range strings.SplitSeq(servers, ",") {
		if s != "" {
			o.Servers = append(o.Servers, scheme+"://"+s)
		}
	}
	return parseOptions(k.Type(), o, options)
}

// options reads and expands an Opening's options. missing is about a variable
// that is not set here.
func (k *natsKind) options(raw json.RawMessage) (o natsOptions, missing, err error) {
	if o, err = decodeOptions[natsOptions](k.Type(), raw); err == nil {
		missing, err = k.config.Environ.expandAll(&o.Token, &o.Username, &o.Password, &o.JWT, &o.Seed)
	}
	if err == nil {
		err = o.validate()
	}
	for _, s := range o.Servers {
		if err != nil {
			break
		}
		var at string
		if at, err = serverAddress(s); err == nil {
			err = k.config.AllowHosts.Check(at)
		}
	}
	if err != nil {
		return o, nil, fmt.Errorf("sink %s: %w", k.Type(), err)
	}
	return o, missing, nil
}

// Check implements replay.SinkKind. It asks which stream takes the subjects.
func (k *natsKind) Check(ctx context.Context, opening replay.Opening) (replay.Target, error) {
	o, missing, err := k.options(opening.Options)
	if err == nil {
		err = noPressure(k.Type(), &opening)
	}
	if err != nil {
		return replay.Target{}, err
	}
	servers := strings.Join(slices.Sorted(slices.Values(o.Servers)), ",")
	subjects, warnings := o.subjects().all(opening.Streams)
	t := replay.Target{
		Key: "nats:" + servers + "/" + o.Subject, Description: fmt.Sprintf("%s to subject %s on JetStream %s", o.Format, o.Subject, servers),
		Guarantee: replay.AtLeastOnce, Warnings: warnings,
	}
	t.Warnings = append(t.Warnings, inTheClear(opening.Options, "token", "password", "seed")...)
	if o.Key == keyNone {
		t.Warnings = append(t.Warnings, "with key=none messages arrive in any order")
	}
	if missing != nil {
		t.Warnings = append(t.Warnings, missing.Error()+" here: the workers need it; JetStream was not asked for the subjects")
	} else {
		err = k.checkSubjects(ctx, &o, subjects)
	}
	return t, err
}

// checkSubjects asks for the stream of each subject.
func (k *natsKind) checkSubjects(ctx context.Context, o *natsOptions, subjects []string) error {
	conn, err := k.connect(ctx, o)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := conn.JetStream(nats.MaxWait(time.Duration(o.Timeout)))
	if err != nil {
		return fmt.Errorf("ask JetStream: %w", err)
	}
	for _, subject := range subjects {
		if _, err := js.StreamNameBySubject(subject, nats.Context(ctx)); errors.Is(err, nats.ErrNoMatchingStream) {
			return noStream(subject, err)
		} else if err != nil {
			return fmt.Errorf("ask JetStream for the stream of subject %s: %w", subject, err)
		}
	}
	return nil
}

func noStream(subject string, err error) error {
	return remedy.Wrapf(fmt.Errorf("no JetStream stream takes subject %s: %w", subject, err), "Create one: nats stream add NAME --subjects %q", subject)
}

// connect connects to a server. The connection is made anew when it breaks.
func (k *natsKind) connect(ctx context.Context, o *natsOptions) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name("reservoir"), nats.Timeout(dialTimeout), nats.NoEcho(),
		nats.SetCustomDialer(hostDialer{context.WithoutCancel(ctx), k.config.AllowHosts}),
		nats.IgnoreDiscoveredServers(), // they are hosts that no one named
		nats.MaxReconnects(-1), nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectBufSize(-1), // an error at once, instead of messages that wait unseen
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}
	if o.Token != "" {
		options = append(options, nats.Token(o.Token))
	}
	if o.Username != "" {
		options = append(options, nats.UserInfo(o.Username, o.Password))
	}
	if o.JWT != "" {
		options = append(options, nats.UserJWTAndSeed(o.JWT, o.Seed))
	}
	conn, err := nats.Connect(strings.Join(o.Servers, ","), options...)
	if err != nil {
		return nil, fmt.Errorf("%w: connect to NATS %s: %w", replay.ErrUnavailable, strings.Join(o.Servers, ","), err)
	}
	return conn, nil
}

// Open implements replay.SinkKind.
func (k *natsKind) Open(ctx context.Context, opening replay.Opening) (replay.Sink, error) {
	o, missing, err := k.options(opening.Options)
	if err == nil {
		err = missing
	}
	if err != nil {
		return nil, err
	}
	conn, err := k.connect(ctx, &o)
	if err != nil {
		return nil, err
	}
	publisher, err := wmnats.NewPublisherWithNatsConn(conn, wmnats.PublisherPublishConfig{
		Marshaler: &wmnats.NATSMarshaler{}, SubjectCalculator: wmnats.DefaultSubjectCalculator,
		JetStream: wmnats.JetStreamConfig{TrackMsgId: true, ConnectOptions: []nats.JSOpt{nats.MaxWait(time.Duration(o.Timeout))}},
	}, watermill.NopLogger{})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("publish to JetStream: %w", err)
	}
	return newBrokerSink(broker{
		topics: o.subjects(), format: o.Format, order: o.Key, workers: o.Concurrency,
		publisher: publisher, judge: judgeNATS,
	}, k.config.Mapping, &opening), nil
}

// Clean implements replay.SinkKind: there is nothing at the servers.
func (*natsKind) Clean(context.Context, replay.Opening) error { return nil }

// judgeNATS says what an error of the servers means.
func judgeNATS(err error) result {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	switch {
	case is(nats.ErrMaxPayload, nats.ErrBadSubject, nats.ErrInvalidMsg):
		return result{answer: never, err: err}
	case is(nats.ErrNoStreamResponse, nats.ErrNoResponders):
		return result{answer: barred, err: remedy.Wrap(err, "Create a JetStream stream that takes the subject, then resume the replay.")}
	case is(nats.ErrAuthorization, nats.ErrPermissionViolation, nats.ErrAuthExpired, nats.ErrAuthRevoked, ErrHostNotAllowed):
		return result{answer: barred, err: err}
	default:
		return result{answer: later, err: err}
	}
}
