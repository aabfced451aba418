package tests

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/acrobits"
	"github.com/sipwake/sipwake/push/apns"
	"github.com/sipwake/sipwake/push/fcm"
	"github.com/sipwake/sipwake/push/hms"
	"github.com/sipwake/sipwake/push/relay"
	"github.com/sipwake/sipwake/push/webhook"
	"github.com/sipwake/sipwake/push/webpush"
)

// What docs/TROUBLESHOOTING.md says of the answers of push services is what the
// code goes by.
func TestDocsAnswers(t *testing.T) {
	t.Parallel()
	for heading, table := range map[string][]push.Answer{
		"### APNs": apns.Answers(), "### FCM": fcm.Answers(), "### Web Push": webpush.Answers(), "### Huawei": hms.Answers(), "### Webhooks": webhook.Answers(),
		"### Acrobits": acrobits.Answers(), "### Relays": relay.Answers(),
	} {
		_, section, _ := strings.Cut(readDoc(t, "docs/TROUBLESHOOTING.md"), "\n"+heading+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		var shown, want []string
		for line := range strings.Lines(section) {
			if strings.HasPrefix(line, "| `") {
				shown = append(shown, strings.TrimSpace(line))
			}
		}
		for _, row := range table {
			said := "`" + strings.Join(row.Said, "`, `") + "`"
			want = append(want, fmt.Sprintf("| %s | %s | `%s` |", said, row.About, row.Reason))
		}
		if d := cmp.Diff(want, shown); d != "" {
			t.Errorf("%s: code -, document +:\n%s\n%s", heading, d, strings.Join(want, "\n"))
		}
	}
}

// Every reason is explained, and nothing else is.
func TestDocsReasons(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(readDoc(t, "docs/TROUBLESHOOTING.md"), "\n## Reasons\n")
	section, _, _ = strings.Cut(section, "\n#")
	var shown, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		shown = append(shown, m[1])
	}
	for _, r := range push.Reasons() {
		want = append(want, string(r))
	}
	slices.Sort(want)
	slices.Sort(shown)
	if d := cmp.Diff(want, shown); d != "" {
		t.Errorf("code -, document +:\n%s", d)
	}
}
