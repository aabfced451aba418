package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The walk through a call in ARCHITECTURE.md names files that are there, each once, and
// functions and routes that are in them. Every other path of the page is there too.
func TestDocsArchitecture(t *testing.T) {
	t.Parallel()
	page := readDoc(t, "docs/ARCHITECTURE.md")
	for _, m := range regexp.MustCompile("`([a-z0-9_-]+(?:/[a-z0-9_.-]+)+)`").FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat("../" + m[1]); err != nil && m[1] != "testing/synctest" {
			t.Errorf("there is no %s", m[1])
		}
	}
	_, walk, _ := strings.Cut(page, "## One call, file by file")
	walk, _, _ = strings.Cut(walk, "\n## ")
	script := readDoc(t, "kamailio/cfg/sipwake.cfg")
	for _, m := range regexp.MustCompile(`SIPWAKE_[A-Z_]+`).FindAllString(walk, -1) {
		if !strings.Contains(script, "route["+m+"]") {
			t.Errorf("there is no route %s", m)
		}
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| \\d+ \\| `([^`]+)` \\| (?:`(\\w+)`)?").FindAllStringSubmatch(walk, -1) {
		if seen[m[1]] {
			t.Errorf("%s is named twice", m[1])
		}
		seen[m[1]] = true
		if source := readDoc(t, m[1]); m[2] != "" && !regexp.MustCompile(`\b`+m[2]+`\(`).MatchString(source) {
			t.Errorf("%s has no %s", m[1], m[2])
		}
	}
	_, fragile, _ := strings.Cut(page, "## Fragile ground")
	fragile, _, _ = strings.Cut(fragile, "\n## ")
	for _, row := range regexp.MustCompile("(?m)(`Test.*) in `([^`]+)`").FindAllStringSubmatch(fragile, -1) {
		sources := testSources(t, "../"+row[2])
		for _, test := range regexp.MustCompile(`Test\w+`).FindAllString(row[1], -1) {
			if !strings.Contains(sources, "func "+test+"(") {
				t.Errorf("%s has no %s", row[2], test)
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("the walk has %d files", len(seen))
	}
}
