package jobs

// Store keeps the documents of jobs on the object store.
type Store struct{}
