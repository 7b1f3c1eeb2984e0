package sink_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
	"github.com/reservoirhq/reservoir/replay/sinktest"
)

func TestStdoutConformance(t *testing.T) {
	var out bytes.Buffer
	kind := sink.NewStdout(&out, event.Mapping{})
	sinktest.Run(t, sinktest.Harness{Kind: kind, Target: func(t testing.TB) sinktest.Target {
		from := out.Len()
		return sinktest.Target{
			Options: options(t, kind, "-", "format", "raw"),
			Read:    func(t testing.TB) []string { return lineIDs(t, "raw", out.String()[from:]) },
		}
	}})
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, errClosedPipe }

var errClosedPipe = errors.New("broken pipe")

func TestStdoutSaysWhenNoOneReads(t *testing.T) {
	kind := sink.NewStdout(closedPipe{}, event.Mapping{})
	s := must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(nil, "job", 1)))
	if err := s.Write(t.Context(), sinktest.BatchOf(sinktest.Events()[:3])); !errors.Is(err, errClosedPipe) {
		t.Errorf("write: %v", err)
	}
}
