package sink_test

import (
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay/sink"
)

func TestExpand(t *testing.T) {
	environ := sink.Environ(func(name string) (string, bool) {
		value, there := map[string]string{"RESERVOIR_SINK_A": "one", "RESERVOIR_SINK_EMPTY": "", "HOME": "/root", "RESERVOIR_SINK_NESTED": "${HOME}"}[name]
		return value, there
	})
	for _, test := range []struct{ text, want, failure string }{
		{text: ""},
		{text: "plain $HOME {stream}", want: "plain $HOME {stream}"},
		{text: "Bearer ${RESERVOIR_SINK_A}", want: "Bearer one"},
		{text: "${RESERVOIR_SINK_A}${RESERVOIR_SINK_EMPTY}${RESERVOIR_SINK_A}", want: "oneone"},
		{text: "${RESERVOIR_SINK_NESTED}", want: "${HOME}"}, // a value is never expanded
		{text: "${RESERVOIR_SINK_A} ${RESERVOIR_SINK_B}", failure: "RESERVOIR_SINK_B is not set"},
		{text: "${HOME}", failure: "${HOME}"},
		{text: "${}", failure: "${}"},
	} {
		got, err := environ.Expand(test.text)
		switch {
		case test.failure == "" && (err != nil || got != test.want):
			t.Errorf("%q: %q, %v", test.text, got, err)
		case test.failure != "" && (err == nil || got != "" || !strings.Contains(err.Error(), test.failure) || remedy.Of(err) == "" || strings.Contains(err.Error(), "one")):
			t.Errorf("%q: %q, %v", test.text, got, err)
		}
	}
	if _, err := (sink.Environ)(nil).Expand("${RESERVOIR_SINK_A}"); err == nil {
		t.Error("a variable of no environment")
	}
}
