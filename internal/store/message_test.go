package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/push"
)

// What sipwake wrote with version 1, and every later one must read.
const goldenMessage = "AQAGR172V081AAZHX8zq8zUABkde9uWJwAABEWFsaWNlQGV4YW1wbGUuY29tAgRjaGF0AwNCb2IECEhpLCBab8OrBQIAeAUGBWVtcHR5BQYEcm9vbTcGxAEBLzx1cm46dXVpZDpmODFkNGZhZS03ZGVjLTExZDAtYTc2NS0wMGEwYzkxZTZiZjY+Am4CAA5yUmF3OlRPS0VOXzEteAZyZW1vdGUAIWgBI0VniavN7wEjRWeJq83vASNFZ4mrze8BI0VniavN7wR2b2lwAQRhcG5zAhFjb20uZXhhbXBsZS5waG9uZQMKQUJDREUxMjM0NQQHc2FuZGJveAMGcXVldWVkBAt1bmF2YWlsYWJsZQUIU2h1dGRvd24GAqwCBi4BA3R3bwIhAQACclQAAQd3ZWJwdXNoBQJjbQYGQlBvaW50BwRhYmNkAwRzZW50"

func message() outbox.Message {
	return outbox.Message{
		ID: "0193e1c4-0000-7000-8000-000000000002", AOR: "alice@example.com", Kind: push.Chat, Title: "Bob", Body: "Hi, Zoë",
		Data:      map[string]string{"room": "7", "": "x", "empty": ""},
		CreatedAt: at("2026-01-02T03:04:05.678901Z"), Deadline: at("2026-01-02T04:04:05.678901Z"), NextTry: at("2026-01-02T03:04:15Z"),
		Targets: []outbox.Target{
			{Device: binding().Device, Address: binding().Address, State: outbox.TargetQueued, Reason: push.Unavailable, Detail: "Shutdown", Tries: 300},
			{Device: "two", Address: pnparam.Address{Provider: pnparam.WebPush, Tokens: []pnparam.Token{{Value: secret.NewToken("T")}},
				Denied: pnparam.Denied{Calls: true, Messages: true},
				Keys:   &pnparam.WebPushKeys{P256dh: secret.NewToken("BPoint"), Auth: secret.NewToken("abcd")}},
				State: outbox.TargetSent},
		},
	}
}

func TestMessage(t *testing.T) {
	m := message()
	v, err := store.AppendMessage(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	if got := base64.RawStdEncoding.EncodeToString(v); got != goldenMessage {
		t.Errorf("message is written in another way: add a golden value if this is meant\n%s", got)
	}
	got, err := store.DecodeMessage(m.ID, unbase64(t, goldenMessage))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got, sameToken); diff != "" {
		t.Errorf("message of version 1: want - got +\n%s", diff)
	}
	m.NextTry = m.NextTry.Add(time.Hour)
	store.SetNextTry(v, m.NextTry)
	got, err = store.DecodeMessage(m.ID, append(bytes.Clone(v), 200, 3, 'n', 'e', 'w'))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got, sameToken); diff != "" {
		t.Errorf("with another try and an unknown tag: want - got +\n%s", diff)
	}
	h, err := store.ReadMessageHead(v)
	want := store.MessageHead{Deadline: m.Deadline, NextTry: m.NextTry}
	if err != nil || h != want || !h.End().Equal(m.Deadline.Add(24*time.Hour)) {
		t.Errorf("head %v, %v, want %v", h, err, want)
	}
	m.Targets = m.Targets[1:]
	if v, err = store.AppendMessage(nil, &m); err != nil {
		t.Fatal(err)
	}
	if h, err := store.ReadMessageHead(v); err != nil || !h.Done {
		t.Errorf("head of a done message: %v, %v", h, err)
	}
	v[0] = 2
	if _, err := store.DecodeMessage(m.ID, v); err == nil || !strings.Contains(err.Error(), "newer sipwake") {
		t.Errorf("version 2: %v", err)
	}
}

// A newer sipwake adds fields to an address; this one reads the rest.
func TestUnknownAddressTag(t *testing.T) {
	b := binding()
	v := unbase64(t, goldenBinding)
	h, err := store.ReadHead(v)
	if err != nil {
		t.Fatal(err)
	}
	longer := append(bytes.Clone(h.Address), 200, 3, 'n', 'e', 'w', 200, 1, 'x')
	from := bytes.Index(v, h.Address)
	value := binary.BigEndian.AppendUint16(bytes.Clone(v[:from-2]), uint16(len(longer)))
	value = append(append(value, longer...), v[from+len(h.Address):]...)
	got, err := store.DecodeBinding(b.AOR, b.Device, value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, got, sameToken); diff != "" {
		t.Error(diff)
	}
}

// Whatever can be read is written so that it comes back; a damaged value gives an
// error, never a crash.
func FuzzMessage(f *testing.F) {
	if b, err := base64.RawStdEncoding.DecodeString(goldenMessage); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		m, err := store.DecodeMessage("id", v)
		if err != nil || m.Deadline.IsZero() {
			return
		}
		for i := range m.Targets { // a pair, or nothing
			if k := m.Targets[i].Address.Keys; k != nil && k.P256dh.Empty() && k.Auth.Empty() {
				m.Targets[i].Address.Keys = nil
			}
		}
		again, err := store.AppendMessage(nil, &m)
		if err != nil {
			t.Skip(err)
		}
		got, err := store.DecodeMessage("id", again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got, sameToken); diff != "" {
			t.Fatal(diff)
		}
	})
}
