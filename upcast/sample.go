package upcast

// Sample is a recorded event and what must become of it.
type Sample struct {
	Name string
}
