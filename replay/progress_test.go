package replay

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
)

// TestCheckpointFits: what a replay keeps while it follows as many streams as it
// may is a checkpoint that a job takes, at its longest.
func TestCheckpointFits(t *testing.T) {
	longest := place{Incarnation: math.MaxInt32, ID: event.ID{Ms: math.MaxUint64, Seq: math.MaxUint64}}
	position := Position{Ms: math.MaxUint64, Stream: math.MaxInt32, Incarnation: math.MaxInt32, ID: longest.ID}
	places := make([]place, maxFollowed)
	for i := range places {
		places[i] = longest
	}
	m := mark{From: position, Chunks: math.MaxUint64, Read: math.MaxUint64, Selected: math.MaxUint64, Letters: math.MaxUint64}
	for range jobs.MaxProgressStreams {
		m.Streams = append(m.Streams, streamCount{math.MaxUint64, math.MaxUint64})
	}
	cp := checkpoint{
		Version: checkpointVersion, mark: m, Sent: position, Written: position, Rejected: math.MaxUint64, Bytes: math.MaxInt64,
		Lap: &lap{Floor: math.MaxUint64, After: places, UpTo: places}, LapBegin: &m,
	}
	for range markEarlier {
		cp.Earlier = append(cp.Earlier, m)
	}
	text, err := json.Marshal(&cp)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d streams make a checkpoint of up to %d bytes", maxFollowed, len(text))
	if len(text) > jobs.MaxCheckpoint {
		t.Errorf("%d bytes, more than the %d that a job takes", len(text), jobs.MaxCheckpoint)
	}
}

func TestCanFollow(t *testing.T) {
	for _, test := range []struct {
		spec    Spec
		streams int
		words   string // of the error; "": none
	}{
		{Spec{}, maxFollowed + 1, ""},
		{Spec{Follow: true}, maxFollowed, ""},
		{Spec{Follow: true}, maxFollowed + 1, "they are 1001, and a replay can follow 1000"},
		{Spec{Follow: true, Order: OrderStream}, 1, ""},
		{Spec{Follow: true, Order: OrderStream}, 2, "never comes to the second"},
	} {
		err := test.spec.canFollow(test.streams)
		if test.words == "" {
			if err != nil {
				t.Errorf("%d streams: %v", test.streams, err)
			}
			continue
		}
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.words) || remedy.Of(err) == "" {
			t.Errorf("%d streams: %v; %s", test.streams, err, remedy.Of(err))
		}
	}
}
