//go:build race

package e2e_test

// raceDetector says that this test binary has it, and so shall the program.
const raceDetector = true
