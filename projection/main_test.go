package projection_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect starts an engine for a test and connects to it.
func connect(t *testing.T) *chstore.Store {
	t.Helper()
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	db, err := chstore.Connect(t.Context(), chstore.Config{URL: engine.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db.As("test")
}
