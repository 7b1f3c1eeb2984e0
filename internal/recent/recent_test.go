package recent_test

import (
	"fmt"
	"testing"

	"github.com/reservoirhq/reservoir/internal/recent"
)

func TestCache(t *testing.T) {
	c := recent.New[int](16)
	for i := range 16 {
		c.Put(fmt.Sprint(i), i, 1)
	}
	if v, ok := c.Get("0"); !ok || v != 0 {
		t.Errorf("0 is %d, %v", v, ok)
	}
	c.Put("more", 16, 1) // 1 was not used for the longest time
	c.Put("2", 22, 1)
	c.Put("3", 33, 2) // too large, and what was there is not true any more
	for key, want := range map[string]int{"0": 0, "1": -1, "2": 22, "3": -1, "4": 4, "more": 16} {
		if v, ok := c.Get(key); ok != (want >= 0) || ok && v != want {
			t.Errorf("%s is %d, %v, want %d", key, v, ok, want)
		}
	}
	var none *recent.Cache[int]
	none.Put("a", 1, 1)
	if _, ok := none.Get("a"); ok {
		t.Error("something is kept nowhere")
	}
}
