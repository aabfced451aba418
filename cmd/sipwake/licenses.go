package main

import (
	_ "embed"
	"fmt"
	"os"
)

//go:embed licenses.txt
var licenses string

type licensesCmd struct{}

// Run prints the licenses.
func (c *licensesCmd) Run() error {
	_, err := fmt.Fprint(os.Stdout, licenses)
	return err
}
