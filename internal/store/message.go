package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/copied"
	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/push"
)

const (
	// MessageKeep is how long a message is kept past its deadline.
	MessageKeep = 24 * time.Hour
	// MaxDue is the most messages that one call of Due returns, whatever its limit.
	MaxDue = 1000
	// MaxMessageID is the maximum length of a message ID in bytes.
	MaxMessageID = 255
)

// Head of a message, big-endian, at fixed places:
//
//	1 version  8 created  8 deadline  8 next try  1 done
const (
	atMessageDeadline = 9
	atMessageNext     = 17
	atMessageDone     = 25
	messageHead       = 26
)

// Tags after the head of a message. Each entry of the data and each target is one
// tagged field.
const (
	tagMessageAOR    = 1
	tagMessageKind   = 2
	tagMessageTitle  = 3
	tagMessageBody   = 4
	tagMessageData   = 5 // uvarint length of the key, key, value
	tagMessageTarget = 6 // nested tags
	tagMessageFrom   = 7
	tagMessageName   = 8
	tagMessageJob    = 9
	tagMessageMany   = 10 // JSON
	tagMessageUser   = 11 // one for each user
	tagMessageOwner  = 12
)

// Tags of a target.
const (
	tagTargetDevice  = 1
	tagTargetAddress = 2
	tagTargetState   = 3
	tagTargetReason  = 4
	tagTargetDetail  = 5
	tagTargetTries   = 6 // uvarint
)

var errMessage = errors.New("it needs a deadline and an ID of 1 to 255 bytes")

// MessageHead holds the fields that an index of messages needs.
type MessageHead struct {
	Deadline time.Time
	NextTry  time.Time
	Done     bool
}

// End returns when the message is forgotten.
func (h MessageHead) End() time.Time { return h.Deadline.Add(MessageKeep) }

// ReadMessageHead reads the head of a message's value. It fails if the value is damaged
// or was written by a newer sipwake.
func ReadMessageHead(v []byte) (MessageHead, error) {
	if len(v) < messageHead {
		return MessageHead{}, fmt.Errorf("cannot read message: %w", errShort)
	}
	if v[0] != Version {
		return MessageHead{}, fmt.Errorf("cannot read message: version %d: %w", v[0], errVersion)
	}
	return MessageHead{
		Deadline: readTime(v[atMessageDeadline:]),
		NextTry:  readTime(v[atMessageNext:]),
		Done:     v[atMessageDone] != 0,
	}, nil
}

// MessageOwner returns the owner named in a message's value, which must have a head.
func MessageOwner(v []byte) (owner string) {
	_ = eachTag(v[messageHead:], func(tag byte, s []byte) error {
		if tag != tagMessageOwner {
			return nil
		}
		owner = string(s)
		return errFound
	})
	return owner
}

// errFound stops a search.
var errFound = errors.New("found")

// SetNextTry sets the next try in the value, which must have a head.
func SetNextTry(v []byte, t time.Time) { appendTime(v[:atMessageNext], t) }

// AppendMessage appends the value of m: everything except its ID. It fails if m has no
// deadline or no ID, or if a field is too long.
func AppendMessage(dst []byte, m *outbox.Message) ([]byte, error) {
	if m.ID == "" || len(m.ID) > MaxMessageID || m.Deadline.UnixMicro() <= 0 {
		return nil, errMessage
	}
	dst = append(dst, Version)
	dst = appendTime(dst, m.CreatedAt)
	dst = appendTime(dst, m.Deadline)
	dst = appendTime(dst, m.NextTry)
	done := byte(0)
	if m.Done() {
		done = 1
	}
	dst = append(dst, done)
	dst = appendTag(dst, tagMessageAOR, m.AOR)
	dst = appendTag(dst, tagMessageKind, string(m.Kind))
	dst = appendTag(dst, tagMessageTitle, m.Title)
	dst = appendTag(dst, tagMessageBody, m.Body)
	dst = appendTag(dst, tagMessageFrom, m.From)
	dst = appendTag(dst, tagMessageName, m.Display)
	dst = appendTag(dst, tagMessageJob, m.Job)
	dst = appendTag(dst, tagMessageOwner, m.Owner)
	if m.Many != nil {
		many, err := json.Marshal(m.Many)
		if err != nil {
			return nil, fmt.Errorf("cannot write message: %w", err)
		}
		dst = appendTag(dst, tagMessageMany, many)
	}
	for _, user := range m.Users {
		dst = appendTag(dst, tagMessageUser, user)
	}
	var part []byte
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		part = binary.AppendUvarint(part[:0], uint64(len(key)))
		part = append(append(part, key...), m.Data[key]...)
		dst = appendTag(dst, tagMessageData, part)
	}
	for i := range m.Targets {
		var err error
		if part, err = appendTarget(part[:0], &m.Targets[i]); err != nil {
			return nil, err
		}
		dst = appendTag(dst, tagMessageTarget, part)
	}
	return dst, nil
}

func appendTarget(dst []byte, t *outbox.Target) ([]byte, error) {
	address, err := AppendAddress(nil, &t.Address)
	if err != nil {
		return nil, err
	}
	dst = appendTag(dst, tagTargetDevice, t.Device)
	dst = appendTag(dst, tagTargetAddress, address)
	dst = appendTag(dst, tagTargetState, string(t.State))
	dst = appendTag(dst, tagTargetReason, string(t.Reason))
	dst = appendTag(dst, tagTargetDetail, t.Detail)
	if t.Tries > 0 {
		dst = appendTag(dst, tagTargetTries, binary.AppendUvarint(nil, uint64(t.Tries)))
	}
	return dst, nil
}

// DecodeMessage reads a message's value. Unknown tags are skipped.
func DecodeMessage(id string, v []byte) (outbox.Message, error) {
	h, err := ReadMessageHead(v)
	if err != nil {
		return outbox.Message{}, err
	}
	m := outbox.Message{ID: id, CreatedAt: readTime(v[1:]), Deadline: h.Deadline, NextTry: h.NextTry}
	err = eachTag(v[messageHead:], func(tag byte, s []byte) error {
		switch tag {
		case tagMessageAOR:
			m.AOR = string(s)
		case tagMessageKind:
			m.Kind = push.Kind(s)
		case tagMessageFrom:
			m.From = string(s)
		case tagMessageName:
			m.Display = string(s)
		case tagMessageJob:
			m.Job = string(s)
		case tagMessageOwner:
			m.Owner = string(s)
		case tagMessageMany:
			m.Many = new(outbox.Many)
			return json.Unmarshal(s, m.Many)
		case tagMessageUser:
			m.Users = append(m.Users, string(s))
		case tagMessageTitle:
			m.Title = string(s)
		case tagMessageBody:
			m.Body = string(s)
		case tagMessageData:
			n, w := binary.Uvarint(s)
			if w <= 0 || n > uint64(len(s)-w) {
				return errShort
			}
			if m.Data == nil {
				m.Data = make(map[string]string)
			}
			m.Data[string(s[w:w+int(n)])] = string(s[w+int(n):])
		case tagMessageTarget:
			t, err := readTarget(s)
			m.Targets = append(m.Targets, t)
			return err
		}
		return nil
	})
	if err != nil {
		return outbox.Message{}, fmt.Errorf("cannot read message: %w", err)
	}
	return m, nil
}

func readTarget(b []byte) (outbox.Target, error) {
	var t outbox.Target
	err := eachTag(b, func(tag byte, s []byte) error {
		switch tag {
		case tagTargetDevice:
			t.Device = string(s)
		case tagTargetAddress:
			var err error
			t.Address, err = readAddress(s, new(copied.Texts))
			return err
		case tagTargetState:
			t.State = outbox.TargetState(s)
		case tagTargetReason:
			t.Reason = push.Reason(s)
		case tagTargetDetail:
			t.Detail = string(s)
		case tagTargetTries:
			n, w := binary.Uvarint(s)
			if w <= 0 {
				return errShort
			}
			t.Tries = int(n)
		}
		return nil
	})
	return t, err
}
