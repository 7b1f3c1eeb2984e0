// Command chengine runs `clickhouse local` out of libchdb, the ClickHouse engine as
// a shared library:
//
//	chengine LIBCHDB ARGUMENT…
//
// It is a program of its own so that the library, with its threads and signal
// handlers, stays out of every other process.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: chengine LIBCHDB ARGUMENT…")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "chengine:", err)
		os.Exit(1)
	}
}

func run(library string, args []string) error {
	lib, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load the ClickHouse engine: %w", err)
	}
	var (
		query  func(argc int32, argv **byte) uintptr // a chdb_result, which the end of the process frees
		failed func(result uintptr) string
		output func(result uintptr) *byte
		length func(result uintptr) uintptr
	)
	purego.RegisterLibFunc(&query, lib, "chdb_query_cmdline")
	purego.RegisterLibFunc(&failed, lib, "chdb_result_error")
	purego.RegisterLibFunc(&output, lib, "chdb_result_buffer")
	purego.RegisterLibFunc(&length, lib, "chdb_result_length")

	argv := cStrings(append([]string{"clickhouse-local"}, args...))
	result := query(int32(len(argv)-1), &argv[0])
	runtime.KeepAlive(argv)
	if result == 0 {
		return errors.New("the ClickHouse engine gave no result")
	}
	if message := failed(result); message != "" {
		return errors.New(message)
	}
	if n := length(result); n > 0 {
		_, err = os.Stdout.Write(unsafe.Slice(output(result), n))
	}
	return err
}

// cStrings returns the arguments as C has them: each ends with a zero byte, and the
// list with a null pointer.
func cStrings(args []string) []*byte {
	list := make([]*byte, 0, len(args)+1)
	for _, a := range args {
		s := append([]byte(a), 0)
		list = append(list, &s[0])
	}
	return append(list, nil)
}
