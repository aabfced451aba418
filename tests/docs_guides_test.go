package tests

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
)

const docToken = "51c9-token-of-the-reader"

// runDoc runs every command that a document shows, against a sipwake that has a
// phone of bob's, which was called.
func runDoc(t *testing.T, doc string) {
	t.Helper()
	r := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, docToken) + "]"})
	r.auth = docToken
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.startWake("bob@example.com", "1-1", obj{"call_id": "19e9257c-849c-424a@192.0.2.4"})
	r.endWake("bob@example.com", "1-1", "timeout")
	program := must2(program())(t)
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	const anyPort = "127.0.0.1:0"
	file := r.write("client.yml", strings.Replace(strings.Replace(string(text), anyPort, r.app.RPCAddr(), 1), anyPort, r.app.OperationsAddr(), 1))
	for _, m := range regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindAllStringSubmatch(readDoc(t, doc), -1) {
		r.write("bindings.jsonl", m[1])
	}
	places := strings.NewReplacer("127.0.0.1:8060", r.app.RPCAddr(), "127.0.0.1:8061", r.app.OperationsAddr(),
		"/etc/sipwake/rpc.token", r.write("rpc.token", docToken))
	for _, block := range docBlocks(t, doc, "sh") {
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			command := places.Replace(line)
			switch {
			case strings.HasPrefix(line, "sipwake bindings "):
				command = strings.Replace(command, "sipwake bindings", program+" bindings --config "+file, 1)
			case strings.HasPrefix(line, "sipwake "):
				command = program + strings.TrimPrefix(command, "sipwake") + " --config " + file
			case strings.HasPrefix(line, "curl -s "):
				command = strings.Replace(command, "curl -s", "curl -sf", 1)
			default:
				t.Errorf("no way to run %q", line)
				continue
			}
			run := exec.Command("sh", "-c", command)
			run.Dir = r.dir
			out, err := run.CombinedOutput()
			if err != nil || strings.Contains(string(out), `"error"`) {
				t.Errorf("%s: %v: %s", line, err, out)
			}
		}
	}
}

// The guide's commands work, every metric it names is there, and it has every
// reason.
func TestDocsTroubleshooting(t *testing.T) {
	t.Parallel()
	const doc = "docs/TROUBLESHOOTING.md"
	runDoc(t, doc)
	text := readDoc(t, doc)
	r := newRig(t, rigOptions{})
	var stats map[string]float64
	r.call("service.stats", nil, &stats)
	reason := regexp.MustCompile(`^sipwake_push_total\{.*reason=(\w+)`)
	var names strings.Builder
	for name := range stats {
		names.WriteString(name + "\n")
		if m := reason.FindStringSubmatch(name); m != nil && !strings.Contains(text, "\n| `"+m[1]+"` |") {
			t.Errorf("no word about the reason %s", m[1])
		}
	}
	shared, _ := redisRig(t)
	_, metrics := shared.get("/metrics")
	names.WriteString(metrics)
	for _, name := range regexp.MustCompile(`sipwake_\w+`).FindAllString(text, -1) {
		if !strings.Contains(names.String(), name) && name != "sipwake_credential_expiry_timestamp_seconds" {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// The guide's commands and configurations work, and every key it names is there.
func TestDocsMigrating(t *testing.T) {
	t.Parallel()
	const doc = "docs/MIGRATING.md"
	runDoc(t, doc)
	for _, block := range docBlocks(t, doc, "yaml") {
		dir := t.TempDir()
		c, err := config.Load(writeTemp(t, inTemp(t, dir, strings.Replace(block, "/etc/sipwake", dir, 1))))
		if err == nil {
			_, err = app.Apps(c)
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, block)
		}
	}
	keys := docKeys(t)
	for _, m := range regexp.MustCompile("`((?:wake|policy)\\.[a-z_.0-9]+)").FindAllStringSubmatch(readDoc(t, doc), -1) {
		key := strings.TrimSuffix(m[1], ".")
		found := key == "wake.remove"
		for k := range keys {
			found = found || k == key || strings.HasSuffix(k, "."+key)
		}
		if !found {
			t.Errorf("there is no setting %s", m[1])
		}
	}
}

// The guide's commands work that need no systemd, its configurations too, and the
// settings and metrics it names are there.
func TestDocsOperations(t *testing.T) {
	t.Parallel()
	const doc = "docs/OPERATIONS.md"
	runDoc(t, doc)
	for _, block := range docBlocks(t, doc, "yaml") {
		dir := t.TempDir()
		text := strings.ReplaceAll(inTemp(t, dir, block), "${CREDENTIALS_DIRECTORY}/", "/etc/sipwake/")
		c, err := config.Load(writeTemp(t, inTemp(t, dir, text)))
		if err == nil {
			_, err = app.Apps(c)
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, block)
		}
	}
	known := readDoc(t, "docs/METRICS.md") + readDoc(t, "docs/CONFIG.md")
	for _, m := range regexp.MustCompile("`(sipwake_\\w+|[a-z]+\\.[a-z_]+)[`{]").FindAllStringSubmatch(readDoc(t, doc), -1) {
		section, key, isKey := strings.Cut(m[1], ".")
		found := strings.Contains(known, "`"+m[1])
		if isKey {
			found = section == "sipwake" || strings.Contains(known, "`"+section+"`") && strings.Contains(known, "`"+key+"`")
		}
		if !found {
			t.Errorf("there is no %s", m[1])
		}
	}
}

// What an administrator and an app's developer had in the guides of other gateways is in
// ours.
func TestDocsTopics(t *testing.T) {
	t.Parallel()
	for doc, topics := range map[string][]string{
		"docs/CLIENTS.md": {"## Text messages", "## Network and servers", "5228, 5229, 5230; 443", "**Proxy and domain.**", "**Several servers.**",
			"## Test it end to end", "## If no push comes"},
		"docs/TROUBLESHOOTING.md": {"## The app gets no push", "## The push comes, the call does not", "## Text messages do not come", "## Firewalls",
			"443", "5228, 5229 and 5230", "## Proxy and domain", "## Several servers", "## Testing", "## What push services answer"},
	} {
		text := readDoc(t, doc)
		for _, topic := range topics {
			if !strings.Contains(text, topic) {
				t.Errorf("%s says nothing of %q", doc, topic)
			}
		}
		// Links within the pages lead somewhere.
		for _, m := range regexp.MustCompile(`\]\((\w+\.md)?#([\w-]+)\)`).FindAllStringSubmatch(text, -1) {
			target := doc
			if m[1] != "" {
				target = "docs/" + m[1]
			}
			if !slices.Contains(anchors(t, target), m[2]) {
				t.Errorf("%s: there is no %s#%s", doc, target, m[2])
			}
		}
	}
}

// anchors returns the names of a page's headings.
func anchors(t *testing.T, doc string) []string {
	t.Helper()
	var list []string
	for _, m := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(readDoc(t, doc), -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(name, " ", "-"))
	}
	return list
}
