package objectstore

import "testing"

func TestPartsReachTheLargestObject(t *testing.T) {
	var total, largest int64
	for sent := range maxParts {
		size := int64(sizeOfPart(minPartSize, sent))
		if size < largest || size > 5<<30 {
			t.Fatalf("part %d has %d bytes after one of %d", sent+1, size, largest)
		}
		total, largest = total+size, size
	}
	if total < 5*1000*1000*1000*1000 {
		t.Errorf("all parts together have %d bytes", total)
	}
	if sizeOfPart(minPartSize, 0) != minPartSize || sizeOfPart(minPartSize, partsPerSize-1) != minPartSize {
		t.Error("the parts of usual objects are not all of one size")
	}
}

func TestBuffersAreRecycledAndBounded(t *testing.T) {
	b := newBuffers(10, 2)
	first := b.get(10)
	b.put(first)
	if again := b.get(10); &again[0] != &first[0] {
		t.Error("the buffer is a new one")
	}
	for range 5 {
		b.put(make([]byte, 10))
		b.put(make([]byte, 20))
	}
	if len(b.free) != 2 {
		t.Errorf("%d buffers are kept", len(b.free))
	}
	if len(b.get(20)) != 20 || len(b.get(10)) != 10 {
		t.Error("wrong sizes")
	}
}
