package tests

import (
	"fmt"
	"os"
	"testing"
)

// scratch is a directory for what several tests share.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "sipwake-tests-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch) // what stays is in the system's directory for such
	os.Exit(code)
}
