package store_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

var sameToken = cmp.Comparer(func(a, b secret.Token) bool { return a == b })

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

func binding() wake.Binding {
	token := strings.Repeat("0123456789abcdef", 4)
	return wake.Binding{
		AOR: "alice@example.com", Device: "<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>",
		Address: pnparam.Address{Provider: pnparam.APNs, App: "com.example.phone", Team: "ABCDE12345", Environment: pnparam.Sandbox,
			Tokens: []pnparam.Token{
				{Service: pnparam.Remote, Value: secret.NewToken("Raw:TOKEN_1-x")},
				{Service: pnparam.VoIP, Value: secret.NewToken(token)},
			}},
		Contact: "sip:alice@192.0.2.1:5061;transport=tls;pn-provider=apns;pn-param=ABCDE12345.com.example.phone.voip&remote;pn-prid=" +
			"Raw:TOKEN_1-x:remote&" + token + ":voip",
		CallID: "a84b4c76e66710@pc33.example.com", CSeq: 314159, Node: "edge-1", Source: "tls:203.0.113.77:51234",
		UserAgent: "Example Phone/4.2.1", RegisteredAt: at("2026-01-02T03:04:05.678901Z"),
		ExpiresAt: at("2026-01-02T04:04:05.678901Z"), CreatedAt: at("2025-12-24T18:00:00.000001Z"),
	}
}

func newWake() wake.Wake {
	return wake.Wake{ID: "0193e1c4-0000-7000-8000-000000000001", AOR: "alice@example.com", Node: "edge-1", Call: "1234:5678",
		CallID: "a84b4c76e66710@pc33.example.com", Kind: push.Call,
		StartedAt: at("2026-01-02T03:04:05.678901Z"), Deadline: at("2026-01-02T03:04:35.678901Z")}
}

// What sipwake wrote with version 1, and every later one must read.
const (
	goldenBinding      = "AQAGR172V082AAZHXvZXTzUABka2bcbIAQAGR1/M6vM1AATLLwAfYTg0YjRjNzZlNjY3MTBAcGMzMy5leGFtcGxlLmNvbQBuAgAOclJhdzpUT0tFTl8xLXgGcmVtb3RlACFoASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8Edm9pcAEEYXBucwIRY29tLmV4YW1wbGUucGhvbmUDCkFCQ0RFMTIzNDUEB3NhbmRib3gCQgAYc2lwOmFsaWNlQDE5Mi4wLjIuMTo1MDYxwP4AAS7/AAwudm9pcCZyZW1vdGXFAQAIOnJlbW90ZSYCAAU6dm9pcAMGZWRnZS0xBBZ0bHM6MjAzLjAuMTEzLjc3OjUxMjM0BRNFeGFtcGxlIFBob25lLzQuMi4x"
	goldenRegistration = "ggAvPHVybjp1dWlkOmY4MWQ0ZmFlLTdkZWMtMTFkMC1hNzY1LTAwYTBjOTFlNmJmNj4BAAAAAAAAAAAABkde9ldPNQAGRrZtxsgBAAZHX8zq8zUABMsvAB9hODRiNGM3NmU2NjcxMEBwYzMzLmV4YW1wbGUuY29tAG4CAA5yUmF3OlRPS0VOXzEteAZyZW1vdGUAIWgBI0VniavN7wEjRWeJq83vASNFZ4mrze8BI0VniavN7wR2b2lwAQRhcG5zAhFjb20uZXhhbXBsZS5waG9uZQMKQUJDREUxMjM0NQQHc2FuZGJveAJCABhzaXA6YWxpY2VAMTkyLjAuMi4xOjUwNjHA/gABLv8ADC52b2lwJnJlbW90ZcUBAAg6cmVtb3RlJgIABTp2b2lwAwZlZGdlLTEEFnRsczoyMDMuMC4xMTMuNzc6NTEyMzQFE0V4YW1wbGUgUGhvbmUvNC4yLjE"
	goldenWake         = "AQAGR172V081AAZHXvghErUAH2E4NGI0Yzc2ZTY2NzEwQHBjMzMuZXhhbXBsZS5jb20AJDAxOTNlMWM0LTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwMQEGZWRnZS0xAgkxMjM0OjU2NzgDBGNhbGw"
)

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	b := binding()
	got, err := store.DecodeBinding(b.AOR, b.Device, unbase64(t, goldenBinding))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, got, sameToken); diff != "" {
		t.Errorf("binding of version 1: want - got +\n%s", diff)
	}
	r, err := store.DecodeRegistration(b.AOR, unbase64(t, goldenRegistration))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wake.Registration{Binding: b, Action: wake.ActionUnbind, Gone: true}, r, sameToken); diff != "" {
		t.Errorf("registration of version 1: want - got +\n%s", diff)
	}
	w, err := store.DecodeWake(b.AOR, unbase64(t, goldenWake))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(newWake(), w); diff != "" {
		t.Errorf("wake of version 1: want - got +\n%s", diff)
	}
}

func TestWritten(t *testing.T) {
	b := binding()
	v, _, err := store.AppendBinding(nil, &b, at("2026-01-02T03:04:05.678902Z"))
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := store.AppendRegistration(nil, &wake.Registration{Binding: b, Action: wake.ActionUnbind, Gone: true}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	nw := newWake()
	w, err := store.AppendWake(nil, &nw)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, golden string
		got          []byte
	}{{"binding", goldenBinding, v}, {"registration", goldenRegistration, r}, {"wake", goldenWake, w}} {
		if got := base64.RawStdEncoding.EncodeToString(c.got); got != c.golden {
			t.Errorf("%s is written in another way: add a golden value if this is meant\n%s", c.name, got)
		}
	}
	if bytes.Contains(v, []byte("pn-prid")) {
		t.Error("the Contact is not written in pieces")
	}
}

// A newer sipwake adds tags; this one reads the rest.
func TestUnknownTag(t *testing.T) {
	b := binding()
	v := append(unbase64(t, goldenBinding), 200, 3, 'n', 'e', 'w')
	got, err := store.DecodeBinding(b.AOR, b.Device, v)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, got, sameToken); diff != "" {
		t.Error(diff)
	}
	v[0] = 2
	if _, err := store.DecodeBinding(b.AOR, b.Device, v); err == nil || !strings.Contains(err.Error(), "newer sipwake") {
		t.Errorf("version 2: %v", err)
	}
}

func TestDamaged(t *testing.T) {
	b := unbase64(t, goldenBinding)
	w := unbase64(t, goldenWake)
	r := unbase64(t, goldenRegistration)
	for n := range 150 { // of a binding's value the tagged rest may be missing
		if n < 45 {
			if _, err := store.DecodeBinding("a", "d", b[:n]); err == nil {
				t.Errorf("a binding of %d bytes was read", n)
			}
		}
		if n < 60 {
			if _, err := store.DecodeWake("a", w[:n]); err == nil {
				t.Errorf("a wake of %d bytes was read", n)
			}
		}
		if n < 80 {
			if _, err := store.DecodeRegistration("a", r[:n]); err == nil {
				t.Errorf("a registration of %d bytes was read", n)
			}
		}
	}
}

// CheckBinding finds damage wherever DecodeBinding does.
func TestCheckBinding(t *testing.T) {
	good := unbase64(t, goldenBinding)
	bad := 0
	check := func(v []byte) {
		t.Helper()
		_, err := store.DecodeBinding("a", "d", v)
		if err != nil {
			bad++
		}
		if checked := store.CheckBinding(v); (err == nil) != (checked == nil) {
			t.Errorf("read with %v, checked with %v: %x", err, checked, v)
		}
	}
	for n := range good {
		check(good[:n])
		for bit := range 8 {
			v := bytes.Clone(good)
			v[n] ^= 1 << bit
			check(v)
		}
	}
	if check(good); bad < 100 {
		t.Errorf("only %d values were damaged", bad)
	}
	h, err := store.ReadHead(good)
	if err != nil {
		t.Fatal(err)
	}
	h.Address[3] = '?' // the form of its first token, which only a newer sipwake knows
	if _, err := store.DecodeBinding("a", "d", good); err == nil || store.CheckBinding(good) == nil {
		t.Errorf("a token of unknown form was read: %v", err)
	}
}

func TestAppendOrder(t *testing.T) {
	old, fresh := binding(), binding()
	fresh.CallID, fresh.CSeq, fresh.Contact = "short", 9, "sip:other"
	fresh.ExpiresAt, fresh.RegisteredAt = at("2026-01-02T03:30:00Z"), at("2026-01-02T03:30:00Z")
	v1, _, err1 := store.AppendBinding(nil, &old, time.Time{})
	v2, _, err2 := store.AppendBinding(nil, &fresh, time.Time{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	got, err := store.DecodeBinding(old.AOR, old.Device, store.AppendOrder(nil, v1, v2))
	if err != nil {
		t.Fatal(err)
	}
	old.CallID, old.CSeq, old.ExpiresAt = fresh.CallID, fresh.CSeq, fresh.ExpiresAt
	if diff := cmp.Diff(old, got, sameToken); diff != "" {
		t.Error(diff)
	}
}

// Whatever is in a field comes back, and equal addresses are equal bytes.
func FuzzBinding(f *testing.F) {
	f.Add("sip:a;pn-prid=TOKEN;pn-param=app.x", "TOKEN", "app.x", "team", "call", uint32(1))
	f.Add("TOKENTOKEN", "abcd", "abcd", "abcd", "", uint32(0))
	f.Add(";pn-prid=", "", "", "", "\x00", uint32(1<<31))
	f.Fuzz(func(t *testing.T, contact, token, app, team, call string, cseq uint32) {
		b := binding()
		b.Contact, b.CallID, b.CSeq = contact, call, cseq
		b.Address.App, b.Address.Team, b.Address.Tokens[0].Value = app, team, secret.NewToken(token)
		v, written, err := store.AppendBinding(nil, &b, time.Time{})
		if err != nil {
			if len(call)+len(token)+len(app)+len(team) < 60_000 {
				t.Fatal(err)
			}
			return
		}
		got, err := store.DecodeBinding(b.AOR, b.Device, v)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, got, sameToken); diff != "" {
			t.Fatal(diff)
		}
		h, err := store.ReadHead(v)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, written, cmp.AllowUnexported(store.Head{})); diff != "" {
			t.Fatal("the head that was written: read - written +", diff)
		}
		other := b
		other.Address.Tokens = append([]pnparam.Token(nil), b.Address.Tokens...)
		other.Address.Tokens[0].Value = secret.NewToken(token + "x")
		a1, err := store.AppendAddress(nil, &b.Address)
		if err != nil {
			t.Fatal(err)
		}
		if a2, err := store.AppendAddress(nil, &other.Address); err != nil || bytes.Equal(a1, a2) || !bytes.Equal(a1, h.Address) {
			t.Fatal("addresses compare wrongly", err)
		}
		if !h.HasToken(store.AppendTokenKey(nil, secret.NewToken(token))) || h.HasToken(store.AppendTokenKey(nil, secret.NewToken(token+"x"))) {
			t.Fatal("tokens compare wrongly")
		}
	})
}

// A damaged value gives an error, never a crash.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{goldenBinding, goldenRegistration, goldenWake} {
		if b, err := base64.RawStdEncoding.DecodeString(s); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		if h, err := store.ReadHead(v); err == nil {
			h.HasToken([]byte("x"))
		}
		if _, err := store.DecodeBinding("a", "d", v); (err == nil) != (store.CheckBinding(v) == nil) {
			t.Fatalf("read with %v, checked with %v", err, store.CheckBinding(v))
		}
		_, _ = store.DecodeRegistration("a", v)
		_, _ = store.DecodeWake("a", v)
	})
}

// A REGISTER whose binding is encoded already gives the same bytes, with the time of now.
func TestAppendEncoded(t *testing.T) {
	r := wake.Registration{Binding: binding(), Action: wake.ActionBind}
	seen := time.UnixMicro(1_700_000_000_000_001)
	want, wantHead, err := store.AppendEncoded([]byte("x"), &r, seen)
	if err != nil {
		t.Fatal(err)
	}
	if r.Value, _, err = store.AppendBinding(nil, &r.Binding, time.Time{}); err != nil {
		t.Fatal(err)
	}
	was := string(r.Value)
	got, head, err := store.AppendEncoded([]byte("x"), &r, seen)
	if err != nil || string(got) != string(want) || !head.Seen.Equal(seen) {
		t.Errorf("%x, seen %s, %v, want %x", got, head.Seen, err, want)
	}
	if diff := cmp.Diff(wantHead, head, cmpopts.IgnoreUnexported(store.Head{})); diff != "" {
		t.Error(diff)
	}
	if string(r.Value) != was {
		t.Error("the encoded value has changed")
	}
	r.Value = r.Value[:20]
	if _, _, err = store.AppendEncoded(nil, &r, seen); err == nil {
		t.Error("a value that is cut short is accepted")
	}
}
