package tests

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The licences of every module that is in the program are in it, and in the package
// and the container: make licenses writes them down.
func TestLicenses(t *testing.T) {
	t.Parallel()
	makefile := readDoc(t, "Makefile")
	tags := regexp.MustCompile(`(?m)^TAGS := (\S+)$`).FindStringSubmatch(makefile)
	if tags == nil {
		t.Fatal("the Makefile has no TAGS")
	}
	cmd := exec.Command("go", "run", "./deploy/licenses", "-tags", tags[1])
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	have := readDoc(t, "cmd/sipwake/licenses.txt")
	if have != string(want) {
		name := regexp.MustCompile(`(?m)^\S+\.\S+/\S+ v\S+$`)
		for _, module := range name.FindAllString(string(want), -1) {
			if !strings.Contains(have, module+"\n") {
				t.Errorf("the licence of %s is missing", module)
			}
		}
		t.Error("cmd/sipwake/licenses.txt is out of date: make licenses")
	}
	for file, ships := range map[string]string{"deploy/Dockerfile": "cmd/sipwake/licenses.txt", "deploy/deb/build.sh": "cmd/sipwake/licenses.txt",
		"cmd/sipwake/licenses.go": "//go:embed licenses.txt"} {
		if text := readDoc(t, file); !strings.Contains(text, ships) {
			t.Errorf("%s does not ship it", file)
		}
	}
	if docker := readDoc(t, "deploy/Dockerfile"); !strings.Contains(docker, "-tags "+tags[1]+" ") {
		t.Errorf("deploy/Dockerfile does not build with the tags %s", tags[1])
	}
}
