package jsonl

import _ "github.com/reservoirhq/reservoir/objectstore"
