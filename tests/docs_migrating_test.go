package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// claims of docs/MIGRATING.md: each row of its tables, by section and first cell, and
// each sentence, by its beginning; and the tests that show it, each as "package test".
// What this file itself runs has no package.
var migratingClaims = map[string][]string{
	// From Mizutech's MPUSH.
	"Clients need no change": {"TestMigratingRegisters", "./internal/pnparam TestClients", "./internal/pnparam TestDocsClients"},
	"`pushkit.p12`, `pushkit.PACKAGE.p12` or `.pem`, `fcmkey.json`": {"TestMigratingDirectory", "TestMigratingRegisters"},
	"password of a certificate":                                     {"TestMigratingDirectory", "TestMigratingRegisters"},
	"sandbox, production; prefix":                                   {"./tests TestFeatureR1MPUSH"},
	"team id, topic, push type":                                     {"./tests TestFeatureP9Overrides", "./push/apns TestTopicOverride"},
	"TTL, priority":                                                 {"./tests TestFeatureP9Overrides", "./push TestDelivery"},
	"sounds":                                                        {"./tests TestFeatureP7Keywords"},
	"`pushkitmessage.txt`, `fcmmessage.txt`":                        {"TestMigratingRegisters", "TestMigratingDirectory", "./push/apns TestMessageFile", "./push/fcm TestMessageFile"},
	"other message templates":                                       {"./tests TestFeatureP7Keywords"},
	"`headers` in a template":                                       {"./push/apns TestTemplateSetsHeaders", "./push/apns TestTemplateHeaderErrors"},
	"data keys `ntype`":                                             {"TestMigratingRegisters", "./push TestDefaultPayloads"},
	"FCM notification part":                                         {"TestMigratingNotificationModes"},
	"kinds 0 call":                                                  {"./tests TestFeatureP1Kinds", "./tests TestFeatureP7Keywords"},
	"when to send":                                                  {"./tests TestFeatureP2When", "./push TestPolicyAllows"},
	"chat on no answer or always":                                   {"./tests TestFeatureP2When"},
	"cancel if nothing answered":                                    {"./tests TestFeatureC3Cancel"},
	"un-REGISTER: 0 honour":                                         {"./tests TestFeatureR6UnregisterModes"},
	"unbind when a REGISTER":                                        {"./tests TestFeatureR5UnbindWithoutPush"},
	"555 for what is not served":                                    {"./tests TestRegisterAnswers"},
	"no sign of the client":                                         {"./tests TestFeatureR9Retention"},
	"wake-up before":                                                {"./tests TestFeatureP13Refresh"},
	"removal on failure":                                            {"./tests TestFeatureC4RemovalRules"},
	"switched off after N":                                          {"./tests TestFeatureP10Breaker"},
	"hold time":                                                     {"./tests TestKamailioHoldTime"},
	"push API":                                                      {"./tests TestFeatureP11Send", "./tests TestFeatureP11HTTP"},
	"load 0 to 4":                                                   {"./tests TestFeatureO2Load", "./internal/app TestLoadListener"},
	"statistics, users":                                             {"./tests TestFeatureO3Statistics", "./cmd/sipwake TestPrintStats", "./cmd/sipwake TestBindings"},
	"reload":                                                        {"./tests TestReload", "./tests TestFeatureO1TemplateReload"},
	"X-PIID":                                                        {"./tests TestGatewayKeepsAlive"},
	"X-Sy.Upper…":                                                   {"./tests TestGatewayChoosesPBX"},
	"A configuration for it":                                        {"./tests TestDocsMigrating"},
	"The bindings come by themselves":                               {"TestMigratingRegisters"},
	"Phones that sleep for long need theirs moved":                  {"TestMigratingImport", "./tests TestDocsMigrating"},
	"`provider` is `apns`":                                          {"TestMigratingImport"},
	"Phones that send `+sip.instance`":                              {"TestMigratingImport"},
	"With a wrong one the binding is replaced":                      {"TestMigratingImport"},

	// From sylk-pushserver.
	"Sylk's clients are understood":           {"./internal/pnparam TestClients", "TestMigratingSylk"},
	"It has its applications":                 {"TestMigratingSylk"},
	"`app_id`, `app_platform = apple`":        {"TestMigratingSylk"},
	"`apple_key` (.p8)":                       {"./push/apns TestHeaders"},
	"`apple_certificate`, `apple_key` (.pem)": {"TestMigratingSylk"},
	"`apple_push_url`":                        {"./tests TestFeatureR1MPUSH", "./push/apns TestEnvironments"},
	"`voip = True`":                           {"TestMigratingSylk"},
	"`app_platform = firebase`":               {"TestMigratingSylk"},
	"`firebase_authorization_key`":            {"TestMigratingSylk"},
	"`POST /push` from your scripts":          {"./tests TestFeatureP11Send"},
	"tokens in the proxy's own table":         {"TestMigratingImport"},

	// From gorush, and between stores.
	"These send one push when they are told to": {"./tests TestDocsWiringWorks"},
	"Replace the call in the proxy's script":    {"./tests TestDocsWiringWorks", "./tests TestKamailioCalls"},
	"For pushes that are no calls":              {"./tests TestDocsMigrating"},
	"Export, change `store`":                    {"TestMigratingStores"},
	"The file holds push tokens":                {"TestMigratingStores"},
}

// pageClaims reads the rows and sentences of the page.
func pageClaims(t *testing.T) []string {
	t.Helper()
	text := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(readDoc(t, "docs/MIGRATING.md"), "")
	var claims []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "#"), strings.HasPrefix(line, "|---"), line == "| there | here |":
		case strings.HasPrefix(line, "| "):
			cell, _, _ := strings.Cut(line[2:], " | ")
			claims = append(claims, cell)
		default:
			for _, sentence := range regexp.MustCompile(`\. +`).Split(line, -1) {
				claims = append(claims, strings.TrimRight(sentence, ".:"))
			}
		}
	}
	return claims
}

// Every claim of the page has a test that runs it, and every test is there.
func TestMigratingClaims(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, claim := range pageClaims(t) {
		found := false
		for name := range migratingClaims {
			if strings.HasPrefix(claim, name) {
				found, seen[name] = true, true
			}
		}
		if !found {
			t.Errorf("no test runs the claim %q", claim)
		}
	}
	sources := map[string]string{}
	for name, tests := range migratingClaims {
		if !seen[name] {
			t.Errorf("the page claims no more: %q", name)
		}
		for _, test := range tests {
			dir, function, ok := strings.Cut(test, " ")
			if !ok {
				dir, function = "./tests", test
			}
			if sources[dir] == "" {
				sources[dir] = testSources(t, filepath.Join("..", dir))
			}
			if !strings.Contains(sources[dir], "\nfunc "+function+"(t *testing.T)") {
				t.Errorf("%q: there is no test %s in %s", name, function, dir)
			}
		}
	}
}

// testSources returns the text of all tests of a package.
func testSources(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	slices.Sort(files)
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "\n%s", text)
	}
	return all.String()
}
