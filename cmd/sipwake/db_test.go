package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A backup of a running service, taken while phones register, is a store from which
// another one serves.
func TestBackupAndRestore(t *testing.T) {
	dir := configured(t)
	s := serve(t, dir)
	s.at("client.yml")
	refused(t, dir, "rpc.token_files", "db", "backup", "--config", "client.yml") // without proof
	s.signal(syscall.SIGTERM)
	s.status()

	withToken(t, dir)
	s = serve(t, dir)
	s.atWithToken("client.yml")
	const n = 300
	s.bind(n)
	writing, done := context.WithCancel(t.Context())
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := n; writing.Err() == nil; i++ {
			s.bindOne(i)
		}
	}()
	if got := ok(t, dir, "db", "backup", "--config", "client.yml", "copy.db"); !strings.Contains(got, "copy.db: ") {
		t.Errorf("said %q", got)
	}
	done()
	<-written
	if fi, err := os.Stat(filepath.Join(dir, "copy.db")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi, err)
	}
	if got := ok(t, dir, "db", "check", "copy.db"); !strings.Contains(got, "copy.db: store, ") || !strings.Contains(got, "  bindings: ") {
		t.Errorf("check: %s", got)
	}
	refused(t, dir, "another process has it open", "db", "check", s.storeFile())
	s.signal(syscall.SIGTERM)
	if status := s.status(); status != 0 {
		t.Fatalf("status %d", status)
	}

	// The machine is lost; the backup is put in place.
	if err := os.Rename(filepath.Join(dir, "copy.db"), s.storeFile()); err != nil {
		t.Fatal(err)
	}
	s = serve(t, dir)
	s.atWithToken("client.yml")
	all := ok(t, dir, "bindings", "list", "--config", "client.yml", "--all")
	for i := range n {
		if !strings.Contains(all, fmt.Sprintf("\nuser%d@example.com ", i)) {
			t.Fatalf("user%d is not in the backup", i)
		}
	}
}

func (s *service) bindOne(i int) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"binding.register","params":{"node":"sip1","aor":"more%d@example.com","call_id":"m%d","cseq":1,
		"expires":600,"source":"udp:192.0.2.7:5070","contact":"<sip:u@192.0.2.7;pn-provider=apns;pn-param=ABCDE12345.com.example.phone.voip;pn-prid=%s>"}}`,
		i, i, voipToken(1_000_000+i))
	req, err := http.NewRequest(http.MethodPost, "http://"+s.rpc+"/rpc", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	token, _ := os.ReadFile(filepath.Join(s.dir, "rpc.token"))
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	if res, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

func (s *service) storeFile() string { return filepath.Join(s.dir, "sipwake.db") }

// What is damaged is told, rescued into a new file, and served from; a service that
// starts with it does the same by itself, and says so in /readyz.
func TestCheckAndRescue(t *testing.T) {
	dir := configured(t)
	withToken(t, dir)
	s := serve(t, dir)
	const n = 600
	s.bind(n)
	s.signal(syscall.SIGTERM)
	s.status()
	if got := ok(t, dir, "db", "check", s.storeFile()+".traces"); !strings.Contains(got, ": traces, ") {
		t.Error(got)
	}
	f, err := os.OpenFile(s.storeFile(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.storeFile())
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("\x00\x11user7@example.com")
	for from := 0; ; { // one of them is in use
		at := bytes.Index(data[from:], key)
		if at < 0 {
			break
		}
		from += at + len(key)
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 16), int64(from/4096*4096)); err != nil {
			t.Fatal(err)
		}
	}
	_ = f.Close()
	refused(t, dir, "sipwake db rescue", "db", "check", s.storeFile())
	refused(t, dir, "is there already", "db", "rescue", s.storeFile(), s.storeFile())
	refused(t, dir, "not there, or empty", "db", "check", "nothing.db")
	said := ok(t, dir, "db", "rescue", s.storeFile(), "new.db")
	if !strings.Contains(said, "1 pages lost") || !strings.Contains(said, "  bindings: 5") {
		t.Errorf("rescue: %s", said)
	}
	ok(t, dir, "db", "check", "new.db")

	s = serve(t, dir) // with the damaged one
	res, err := http.Get("http://" + s.operations + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || !strings.HasPrefix(string(text), "ok\nthe store's file was damaged") {
		t.Errorf("/readyz: %d %s %v", res.StatusCode, text, err)
	}
	if lines := strings.Count(s.said(), "was damaged"); lines != 1 {
		t.Errorf("%d lines say so", lines)
	}
}
