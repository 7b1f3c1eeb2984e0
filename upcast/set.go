package upcast

// Set is upcasters, chained. A nil Set has none.
type Set struct{}
