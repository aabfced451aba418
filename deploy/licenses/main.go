// Command licenses prints the licences of everything in the program sipwake: its own, those
// of the Go modules, and Go's. It prints a shared text only once. make licenses writes them
// to the file that the program embeds.
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	text, err := collect(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(text)
}

// module is a Go module in the program, with the directory of its sources.
type module struct{ name, dir string }

// collect returns the texts. flags are for go list, such as -tags.
func collect(flags []string) (string, error) {
	modules, err := list(flags)
	if err != nil {
		return "", err
	}
	goroot, err := run("go", "env", "GOROOT")
	if err != nil {
		return "", err
	}
	modules = append(modules, module{"Go and its standard library", strings.TrimSpace(goroot)}, module{"sipwake", "."})
	owners := make(map[string][]string) // of a text
	for _, m := range modules {
		texts, err := licenses(m.dir)
		if err != nil {
			return "", fmt.Errorf("%s: %w", m.name, err)
		}
		for _, text := range texts {
			owners[text] = append(owners[text], m.name)
		}
	}
	var b strings.Builder
	b.WriteString("The licences of all that is in the program sipwake.\n")
	for _, text := range slices.SortedFunc(maps.Keys(owners), func(x, y string) int {
		return cmp.Compare(owners[x][0]+x, owners[y][0]+y)
	}) {
		fmt.Fprintf(&b, "\n%s\n", strings.Repeat("=", 80))
		for _, name := range owners[text] {
			fmt.Fprintln(&b, name)
		}
		fmt.Fprintf(&b, "\n%s\n", text)
	}
	return b.String(), nil
}

// list returns the modules of the program for Linux, ordered.
func list(flags []string) ([]module, error) {
	found := make(map[module]bool)
	for _, arch := range []string{"amd64", "arm64"} {
		args := append([]string{"GOOS=linux", "CGO_ENABLED=0", "GOARCH=" + arch, "go", "list"}, flags...)
		out, err := run("env", append(args, "-deps", "-f", "{{with .Module}}{{if .Version}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/sipwake")...)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			if name, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
				found[module{name, dir}] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b module) int { return cmp.Compare(a.name, b.name) }), nil
}

func run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, stderr.String())
	}
	return string(out), nil
}

var licenseFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice)`)

// licenses returns the licence texts of a module. It is an error if there are none, because
// the module must not be shipped then.
func licenses(dir string) (texts []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() || !licenseFile.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")))
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("no licence is in %s", dir)
	}
	return texts, nil
}
