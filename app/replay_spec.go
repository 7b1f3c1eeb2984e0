package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/reservoirhq/reservoir/replay"
)

// replayFlags are the flags that say what to replay, where to and how.
type replayFlags struct {
	spec        replay.Spec // but for the flags below
	file        string
	order       string
	into        string
	set         []string
	rate, speed string
}

func (f *replayFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "file", "", "`file` with a whole replay, YAML or JSON, - for standard input; flags win over it")
	streamFlag(flags, &f.spec.Streams, " to replay")
	rangeFlags(flags, &f.spec.From, &f.spec.To)
	filterFlags(flags, &f.spec.Filter)
	flags.Uint64Var(&f.spec.Limit, "limit", 0, "end after this many events; 0: at the end of the range")
	flags.StringVar(&f.order, "order", "time", "order of several streams: `time` (merged) or stream (one after the other)")
	flags.BoolVar(&f.spec.Follow, "follow", false, "go on with what is published after the archive's end, until the replay is cancelled")
	flags.BoolVar(&f.spec.Upcast, "upcast", false, "bring old events into today's shape by the configured upcasters")
	flags.StringVar(&f.into, "into", "", "`target`: 'redis:{stream}:replay', https://host/path, file:PATH, kafka:HOST:PORT/TOPIC, nats:HOST:PORT/SUBJECT, - for standard output")
	flags.StringArrayVar(&f.set, "set", nil, "an option of the target, `key=value`; can be given several times")
	flags.StringVar(&f.rate, "rate", "", "`events` a second, 500 or 500/s; also 30/m and 1000/h (default as fast as possible)")
	flags.StringVar(&f.speed, "speed", "", "`times` the original speed: 1x, 60x, 0.5x")
	flags.DurationVar(&f.spec.Pace.MaxSilence, "max-silence", 0, "with --speed: cut silences of the original to this `duration`")
	b := &f.spec.BackPressure
	flags.Uint64Var(&b.MaxLength, "max-length", 0, "hold while the target stream has more than this many `entries`")
	flags.StringVar(&b.Group, "group", "", "`consumer group` of the target stream that --max-lag and --max-pending look at")
	flags.Uint64Var(&b.MaxLag, "max-lag", 0, "hold while more than this many `entries` are not delivered to the group yet")
	flags.Uint64Var(&b.MaxPending, "max-pending", 0, "hold while the group has more than this many `entries` not acknowledged yet")
	flags.IntVar(&f.spec.Failures.Retry.Attempts, "attempts", 0, "how `often` what the target does not take is sent (default 8)")
	flags.Uint64Var(&f.spec.Failures.MaxDeadLetters, "max-dead-letters", 0, "how many `events` may be set aside; 0: stop at the first")
}

// needsRedis says whether the configured Redis is a part of the replay.
func needsRedis(spec *replay.Spec) bool {
	if spec.Follow {
		return true
	}
	if spec.Sink.Type != "redis" {
		return false
	}
	var options struct {
		URL string `json:"url"`
	}
	return json.Unmarshal(spec.Sink.Options, &options) != nil || options.URL == ""
}

// asksRedis says whether the configured Redis is to be asked whether it is the
// target of the replay.
func asksRedis(spec *replay.Spec) bool { return spec.Sink.Type == "redis" }

// intoRedis is asksRedis, before there are sinks to ask.
func (f *replayFlags) intoRedis() bool {
	scheme, _, _ := strings.Cut(f.into, ":")
	scheme, _, _ = strings.Cut(scheme, "+")
	return scheme == "redis" || scheme == "rediss" || scheme == "unix"
}

// redisTarget says, before there are sinks to ask, whether a target is a stream
// of the configured Redis.
func (f *replayFlags) redisTarget() bool {
	return strings.HasPrefix(f.into, "redis:") && !strings.HasPrefix(f.into, "redis://")
}

// read gives the replay that the command line and the file ask for. What only
// the sinks know is left to finish.
func (f *replayFlags) read(a *app, cmd *cobra.Command) (replay.Spec, error) {
	var spec replay.Spec
	if f.file != "" {
		text, err := a.readInput(f.file)
		if err != nil {
			return spec, err
		}
		if spec, err = parseReplayFile(text); err != nil {
			return spec, usageError{fmt.Errorf("%s: %w", f.file, err)}
		}
	}
	from := &f.spec
	for name, take := range map[string]func(){
		"stream":           func() { spec.Streams = from.Streams },
		"from":             func() { spec.From = from.From },
		"to":               func() { spec.To = from.To },
		"type":             func() { spec.Filter.Types = from.Filter.Types },
		"tenant":           func() { spec.Filter.Tenants = from.Filter.Tenants },
		"aggregate-type":   func() { spec.Filter.AggregateTypes = from.Filter.AggregateTypes },
		"aggregate":        func() { spec.Filter.Aggregates = from.Filter.Aggregates },
		"event-id":         func() { spec.Filter.EventIDs = from.Filter.EventIDs },
		"where":            func() { spec.Filter.Where = from.Filter.Where },
		"limit":            func() { spec.Limit = from.Limit },
		"order":            func() { spec.Order = replay.Order(f.order) },
		"follow":           func() { spec.Follow = from.Follow },
		"upcast":           func() { spec.Upcast = from.Upcast },
		"max-silence":      func() { spec.Pace.MaxSilence = from.Pace.MaxSilence },
		"max-length":       func() { spec.BackPressure.MaxLength = from.BackPressure.MaxLength },
		"group":            func() { spec.BackPressure.Group = from.BackPressure.Group },
		"max-lag":          func() { spec.BackPressure.MaxLag = from.BackPressure.MaxLag },
		"max-pending":      func() { spec.BackPressure.MaxPending = from.BackPressure.MaxPending },
		"attempts":         func() { spec.Failures.Retry.Attempts = from.Failures.Retry.Attempts },
		"max-dead-letters": func() { spec.Failures.MaxDeadLetters = from.Failures.MaxDeadLetters },
	} {
		if cmd.Flags().Changed(name) {
			take()
		}
	}
	var err error
	if f.rate != "" {
		if spec.Pace.Rate, err = parseRate(f.rate); err != nil {
			return spec, err
		}
	}
	if f.speed != "" {
		if spec.Pace.Factor, err = strconv.ParseFloat(strings.TrimSuffix(f.speed, "x"), 64); err != nil || spec.Pace.Factor <= 0 {
			return spec, usagef("--speed %q is no multiple of the original speed: want 1x, 60x or 0.5x", f.speed)
		}
	}
	if len(f.set) > 0 && f.into == "" {
		return spec, usagef("--set gives options of --into: name the target with it")
	}
	return spec, nil
}

// target makes the sink of --into and --set.
func (f *replayFlags) target(b replayBackend, spec *replay.Spec) error {
	if f.into == "" {
		return nil
	}
	options := map[string]string{}
	for _, text := range f.set {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return usagef("--set %q is no option: want key=value", text)
		}
		options[key] = value
	}
	sink, err := b.parseTarget(f.into, options)
	if err != nil {
		return refused(err)
	}
	spec.Sink = sink
	return nil
}

// parseRate reads "500", "500/s", "30/m" or "1000/h".
func parseRate(text string) (float64, error) {
	number, unit, _ := strings.Cut(text, "/")
	per, known := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !known || n <= 0 {
		return 0, usagef("--rate %q is no number of events a second: want 500, 500/s, 30/m or 1000/h", text)
	}
	return n / per, nil
}

// parseReplayFile reads a replay.Spec, YAML or JSON. Durations may be written
// as text under their name without _ns.
func parseReplayFile(text []byte) (replay.Spec, error) {
	var spec replay.Spec
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return spec, fmt.Errorf("read the replay: %w", err)
	}
	var ends struct{ From, To yaml.Node } // as they are written: a day is no time
	if err := yaml.Unmarshal(text, &ends); err != nil {
		return spec, fmt.Errorf("read the replay: %w", err)
	}
	for name, node := range map[string]yaml.Node{"from": ends.From, "to": ends.To} {
		if node.Kind == yaml.ScalarNode {
			doc[name] = node.Value
		}
	}
	pace, failures := section(doc, "pace"), section(doc, "failures")
	for _, d := range []struct {
		in   map[string]any
		name string
	}{{pace, "max_silence"}, {section(failures, "retry"), "initial"}, {section(failures, "retry"), "max"}} {
		if err := asNanoseconds(d.in, d.name); err != nil {
			return spec, err
		}
	}
	encoded, err := json.Marshal(doc)
	if err != nil {
		return spec, fmt.Errorf("read the replay: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(encoded))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spec); err != nil {
		return spec, fmt.Errorf("read the replay: %w", err)
	}
	return spec, nil
}

func section(doc map[string]any, name string) map[string]any {
	s, _ := doc[name].(map[string]any) // absent, or the decoder says what it is
	return s
}

// asNanoseconds turns "max_silence: 5s" into "max_silence_ns: 5000000000".
func asNanoseconds(in map[string]any, name string) error {
	text, ok := in[name].(string)
	if !ok {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%s: %q is no duration: want 5s, 2m or 1h30m", name, text)
	}
	delete(in, name)
	in[name+"_ns"] = d.Nanoseconds()
	return nil
}
