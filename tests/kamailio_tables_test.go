package tests

import (
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// TestKamailioTables: a text that a process reads from a table, after SIPWAKE_COPY, is the one
// that was there, although another process writes into its memory in that moment. Without, the
// test says how often it was none that was ever there.
func TestKamailioTables(t *testing.T) {
	t.Parallel()
	const place = "\nrequest_route {"
	kind := kamailioWith(t, place, `
max_while_loops=1000000
route[WRITE] {
	while ($var(i) < 300000) {
		$sht(sipwake=>text) = $var(one);
		$sht(sipwake=>text) = $var(other);
		$var(i) = $var(i) + 1;
	}
	$sht(sipwake=>written) = 1;
}
route[READ] {
	while ($sht(sipwake=>written) == $null) {
		$var(was) = $sht(sipwake=>long);
		if ($rU == "copy") route(SIPWAKE_COPY);
		$var(text) = $sht(sipwake=>text);
		if ($var(text) =~ "^(m+|o+)$") $var(good) = $var(good) + 1;
		else if ($var(text) =~ "[a-z]") $var(bad) = $var(bad) + 1;
	}
	$sht(sipwake=>written) = $null;
}
`+place+`
	if (is_method("MESSAGE") && $rU =~ "^(write|copy|plain)$") {
		$var(i) = 0;
		$var(good) = 0;
		$var(bad) = 0;
		$var(one) = "`+strings.Repeat("m", 4000)+`";
		$var(other) = "`+strings.Repeat("o", 4000)+`";
		$sht(sipwake=>long) = "`+strings.Repeat("l", 4100)+`";
		if ($rU == "write") route(WRITE);
		else route(READ);
		sl_send_reply("200", "good $var(good) bad $var(bad) of");
		exit;
	}
`)
	s := table{name: "tables"}.start(t, kind).scenario(t)
	for _, how := range []string{"copy", "plain"} {
		read := must(s.caller().SendMessage(s.ctx, how, "", phone.MessageOptions{}))(s)
		write := must(s.caller().SendMessage(s.ctx, "write", "", phone.MessageOptions{}))(s)
		must(write.Final(s.ctx))(s)
		got, _, _ := strings.Cut(must(read.Final(s.ctx))(s).Raw, " of")
		t.Log(how, got)
		if how == "copy" && (strings.Contains(got, "good 0 ") || !strings.HasSuffix(got, "bad 0")) {
			t.Error("a text that nobody has written")
		}
	}
}
