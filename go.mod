module github.com/reservoirhq/reservoir

go 1.26
