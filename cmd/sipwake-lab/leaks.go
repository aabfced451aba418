package main

import (
	"errors"
	"fmt"

	"github.com/sipwake/sipwake/internal/lab/leak"
)

type leaksCmd struct {
	Dir string `arg:"" help:"Directory that SIPWAKE_TEST_LOGS named while the tests ran." type:"existingdir"`
}

// Run fails if a secret of the test run is in anything that was said.
func (c *leaksCmd) Run() error {
	r, err := leak.Check(c.Dir)
	if err != nil {
		return fmt.Errorf("cannot look for leaks: %w", err)
	}
	for _, f := range r.Found {
		fmt.Println("leak:", f)
	}
	if len(r.Found) > 0 {
		return errors.New("secrets leaked")
	}
	fmt.Printf("leaks: none of %d secrets in %d files of %d MB\n", r.Secrets, r.Files, r.Bytes>>20)
	return nil
}
