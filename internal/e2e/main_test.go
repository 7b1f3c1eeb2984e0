package e2e_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// program is the path of the reservoir binary under test.
var program string

// TestMain builds the program once, with the race detector if the tests have it.
// It is also the process that the tests of rebuilds kill: see kitchenHand.
func TestMain(m *testing.M) {
	if text := os.Getenv(handVariable); text != "" {
		if err := kitchenHand(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if testing.Short() { // nothing here runs without servers
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "reservoir-e2e-")
	if err == nil {
		err = build(filepath.Join(dir, "reservoir"))
	}
	status := 1
	if err == nil {
		status = m.Run()
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func build(path string) error {
	args := []string{"build", "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/reservoirhq/reservoir/cmd/reservoir")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build reservoir: %w\n%s", err, out)
	}
	program = path
	return nil
}

// seedVariable makes the random choices of a run those of an earlier one. When
// processes are killed is a matter of the machine too, so that a failure may
// need several runs to come back.
const seedVariable = "RESERVOIR_E2E_SEED"

// newSeed takes the seed from the environment, or makes one, and shows it.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	return seed
}

// newRand gives a source of its own to each part of a test.
func newRand(seed uint64, part int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(part)))
}

// between is a random number from low to high.
func between(rng *rand.Rand, low, high int) int { return low + rng.IntN(high-low+1) }
