package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What CONTRIBUTING.md names is there: targets, files, folders, tests.
func TestDocsContributing(t *testing.T) {
	t.Parallel()
	page, makefile := readDoc(t, "docs/CONTRIBUTING.md"), readDoc(t, "Makefile")
	for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)").FindAllStringSubmatch(page, -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("there is no target %s", m[1])
		}
	}
	paths := 0
	for _, m := range regexp.MustCompile("`([a-z0-9_-]+/[a-z0-9_./-]+|[a-z]+)`").FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat("../" + m[1]); err == nil {
			paths++
		} else if strings.Contains(m[1], "/") {
			t.Errorf("there is no %s", m[1])
		}
	}
	if paths < 8 {
		t.Errorf("only %d paths were found", paths)
	}
	for _, m := range regexp.MustCompile(`-run '?(\w+)`).FindAllStringSubmatch(page, -1) {
		found := false
		entries, err := os.ReadDir(".")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), "_test.go") && strings.Contains(readDoc(t, "tests/"+e.Name()), "func "+m[1]+"(") {
				found = true
			}
		}
		if !found {
			t.Errorf("there is no test %s", m[1])
		}
	}
}
