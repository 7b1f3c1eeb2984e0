package consumer_test

const childVariable = "RESERVOIR_CONSUMER_CHILD"

func child() error { return nil }
