// Command grafana generates the dashboards in grafana/dashboards: `make dashboards`.
// Generated dashboards all look alike, and each query is written once.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: grafana DIRECTORY")
		return 2
	}
	files, err := generate()
	if err != nil {
		fmt.Fprintln(os.Stderr, "grafana:", err)
		return 1
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(args[0], name), text, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "grafana:", err)
			return 1
		}
	}
	return 0
}

// generate returns the dashboards as JSON, by file name.
func generate() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, b := range []board{onCall(), overview(), apps(), nodes()} {
		made, err := b.build()
		if err != nil {
			return nil, fmt.Errorf("cannot make dashboard %q: %w", b.title, err)
		}
		text, err := json.MarshalIndent(made, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("cannot encode dashboard %q: %w", b.title, err)
		}
		files[b.uid+".json"] = append(text, '\n')
	}
	return files, nil
}
