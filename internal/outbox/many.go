package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

const (
	// MaxUsers is how many users one push.many takes.
	MaxUsers = 1000
	// MaxRate is the most users a second of a push.many.
	MaxRate = 1000
	// DefaultRate is the default number of users a second.
	DefaultRate = 50
	// manyTTL is the default lifetime of a push.many.
	manyTTL = 24 * time.Hour
	// partSize is how many users of an app one message of the outbox names.
	partSize = 500
	// maxJobs is how many of the operator's push.many an instance works on at once,
	// maxOwnJobs how many of each tenant's; others wait.
	maxJobs    = 4
	maxOwnJobs = 1
	// checkpoint is how often a job's progress is written.
	checkpoint = 5 * time.Second
)

// Many is the progress of a push to many users. Such a message has no targets. Its users
// are in parts, which are separate messages that are never delivered themselves. Each
// user gets a separate message when it is his turn.
type Many struct {
	Provider pnparam.Provider `json:"provider,omitempty"` // empty: any
	App      string           `json:"app,omitempty"`      // empty: any
	Rate     int              `json:"rate"`               // users a second
	List     string           `json:"list,omitempty"`     // prefix of the parts' IDs; empty: not listed yet
	Parts    int              `json:"parts"`
	Part     int              `json:"part"` // the next part
	Next     int              `json:"next"` // the next user in the part
	Users    int              `json:"users"`
	Sent     int              `json:"sent"` // users who had their turn
	None     int              `json:"none"` // of these, users without a matching device
	Ended    bool             `json:"ended"`
	Scope    *wake.Scope      `json:"scope,omitempty"`   // of the tenant who sent it
	Stopped  bool             `json:"stopped,omitempty"` // by Stop
}

func (m *Many) wants(b wake.Binding) bool {
	return m.Scope.Binding(&b) && (m.Provider == "" || m.Provider == b.Address.Provider) && (m.App == "" || m.App == b.Address.App)
}

func (m *Many) partID(n int) string { return fmt.Sprint(m.List, "-", n) }

// ManyParams are the parameters of push.many. AOR and token of the SendParams are
// ignored; its app and provider select the devices.
type ManyParams struct {
	SendParams
	AORs []string // up to MaxUsers; nil: every user with a device of the app
	Rate int      // users a second, up to MaxRate; 0: 50
}

// SendMany stores a push to many users and returns before it is delivered. Delivery
// continues after restarts; a user who had his turn is not pushed again.
func (s *Service) SendMany(ctx context.Context, p ManyParams) (Message, error) {
	users, err := checkMany(&p)
	if err != nil {
		return Message{}, err
	}
	now := time.Now()
	m := Message{ID: uuid.NewString(), Kind: p.Kind, From: p.From, Display: p.Display, Title: p.Title, Body: p.Body, Data: p.Data,
		CreatedAt: now, Deadline: now.Add(p.TTL), NextTry: now,
		Owner: p.By.Name, Many: &Many{Provider: p.Provider, App: p.App, Rate: p.Rate, Scope: p.By.Scope}}
	if len(users) > 0 {
		m.Many.List = m.ID
		if err := s.putPart(ctx, &m, users); err != nil {
			return Message{}, err
		}
	}
	return m, s.store.Put(ctx, m)
}

func checkMany(p *ManyParams) (users []string, err error) {
	if err := checkSend(&p.SendParams); err != nil {
		return nil, err
	}
	switch {
	case p.AORs != nil && len(p.AORs) == 0: // of a script whose list has come out empty
		return nil, &wake.ParamError{Field: "aors", Problem: "is empty; leave it out to push all users of the app"}
	case len(p.AORs) == 0 && p.App == "":
		return nil, &wake.ParamError{Field: "aors", Problem: "is missing; give aors, or app for all of its users"}
	case len(p.AORs) == 0 && !p.By.Scope.App(p.App):
		return nil, &wake.ParamError{Field: "app", Problem: "is none of this tenant's"}
	case len(p.AORs) > MaxUsers:
		return nil, &wake.ParamError{Field: "aors", Problem: fmt.Sprint("holds more than ", MaxUsers)}
	case p.Rate < 0 || p.Rate > MaxRate:
		return nil, &wake.ParamError{Field: "rate", Problem: fmt.Sprint("must be from 1 to ", MaxRate)}
	}
	if p.Rate == 0 {
		p.Rate = DefaultRate
	}
	if p.TTL == 0 {
		p.TTL = manyTTL
	}
	for i, aor := range p.AORs {
		clean, err := wake.CleanAOR(aor)
		if bad := (*wake.ParamError)(nil); errors.As(err, &bad) {
			return nil, &wake.ParamError{Field: fmt.Sprintf("aors[%d]", i), Problem: bad.Problem}
		}
		users = append(users, clean)
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// putPart stores users as the next part of the job.
func (s *Service) putPart(ctx context.Context, m *Message, users []string) error {
	part := Message{ID: m.Many.partID(m.Many.Parts), Owner: m.Owner, Job: m.ID, Kind: m.Kind, Users: users,
		CreatedAt: m.CreatedAt, Deadline: m.Deadline, NextTry: m.Deadline}
	if err := s.store.Put(ctx, part); err != nil {
		return err
	}
	m.Many.Parts++
	m.Many.Users += len(users)
	return nil
}

// job is a push.many while an instance with its lease works on it.
type job struct {
	*Service
	message Message
	written time.Time
	asked   time.Time // when the job last checked for a stop
}

// work continues a push.many until the round or ctx ends, and then releases the message.
func (s *Service) work(ctx context.Context, m Message) {
	many := *m.Many
	m.Many = &many
	j := &job{Service: s, message: m, written: time.Now()}
	err := j.round(ctx)
	j.message.NextTry = time.Now()
	if many.Stopped {
		j.message.NextTry = m.Deadline
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("cannot continue push to many users, trying again", "message", m.ID, "sent", many.Sent, "err", err)
		j.message.NextTry = j.message.NextTry.Add(firstPause)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	err = s.store.Update(ctx, j.message)
	if err == nil && many.Stopped {
		var still bool
		if still, err = s.stopped(ctx, m.ID); err == nil && !still {
			err = s.wakeJob(ctx, m.ID)
		}
	}
	if err != nil {
		s.log.Warn("cannot write outbox", "message", m.ID, "err", err)
	}
}

// toStop reports whether the job must stop. It reads the store only now and then.
func (j *job) toStop(ctx context.Context) (bool, error) {
	many := j.message.Many
	if !many.Stopped && time.Since(j.asked) >= wordEvery {
		j.asked = time.Now()
		var err error
		if many.Stopped, err = j.stopped(ctx, j.message.ID); err != nil {
			return false, err
		}
	}
	return many.Stopped, nil
}

func (j *job) round(ctx context.Context) error {
	many := j.message.Many
	many.Stopped = false
	if stop, err := j.toStop(ctx); stop || err != nil {
		return err
	}
	if many.List == "" {
		if err := j.list(ctx); err != nil {
			return err
		}
	}
	end := time.Now().Add(round)
	ctx, cancel := context.WithDeadline(ctx, end.Add(storeTimeout))
	defer cancel()
	ticker := time.NewTicker(time.Second / time.Duration(many.Rate))
	defer ticker.Stop()
	for ; many.Part < many.Parts; many.Part, many.Next = many.Part+1, 0 {
		part, known, err := j.store.Message(ctx, many.partID(many.Part))
		if err != nil {
			return err
		}
		if !known {
			continue
		}
		for ; many.Next < len(part.Users); many.Next++ {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			if now := time.Now(); now.After(end) || now.After(j.message.Deadline) {
				return nil
			}
			if stop, err := j.toStop(ctx); stop || err != nil {
				return err
			}
			if err := j.sendOne(ctx, part.Users[many.Next]); err != nil {
				return err
			}
			many.Sent++
			if err := j.note(ctx); err != nil {
				return err
			}
		}
		part.Users = nil // to make room
		if err := j.store.Update(ctx, part); err != nil {
			return err
		}
	}
	many.Ended = true
	return nil
}

// note writes the progress now and then, which also extends the lease.
func (j *job) note(ctx context.Context) error {
	if time.Since(j.written) < checkpoint {
		return nil
	}
	j.written = time.Now()
	j.message.NextTry = j.written.Add(lease)
	m := j.message
	many := *m.Many
	many.Next++ // past the user whose turn it was
	m.Many = &many
	return j.store.Update(ctx, m)
}

// list finds the users of the app and stores them in parts. If it fails, it starts over
// later.
func (j *job) list(ctx context.Context) error {
	m := &j.message
	before := *m.Many
	list := uuid.NewString()
	m.Many.List = list
	var users []string
	err := j.devices.EachBinding(ctx, func(bindings []wake.Binding) error {
		for _, b := range bindings {
			if !m.Many.wants(b) || len(users) > 0 && users[len(users)-1] == b.AOR {
				continue
			}
			if users = append(users, b.AOR); len(users) == partSize {
				if err := j.putPart(ctx, m, users); err != nil {
					return err
				}
				users = nil
			}
		}
		return j.keep(ctx, before)
	})
	if err == nil && len(users) > 0 {
		err = j.putPart(ctx, m, users)
	}
	if err == nil {
		return nil
	}
	for i := range m.Many.Parts { // otherwise they would stay until the deadline
		part := Message{ID: m.Many.partID(i), Owner: m.Owner, Job: m.ID, CreatedAt: m.CreatedAt, Deadline: m.Deadline}
		err = errors.Join(err, j.store.Update(context.WithoutCancel(ctx), part))
	}
	*m.Many = before
	return err
}

// keep extends the lease of the message, with its former progress.
func (j *job) keep(ctx context.Context, was Many) error {
	if time.Since(j.written) < checkpoint {
		return nil
	}
	j.written = time.Now()
	m := j.message
	m.NextTry, m.Many = j.written.Add(lease), &was
	return j.store.Update(ctx, m)
}

// sendOne stores the message of one user and begins to deliver it, unless it was stored
// before.
func (j *job) sendOne(ctx context.Context, aor string) error {
	job := &j.message
	root, err := uuid.Parse(job.ID)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	id := uuid.NewSHA1(root, []byte(aor)).String()
	if _, known, err := j.store.Message(ctx, id); known || err != nil {
		return err
	}
	bindings, err := j.devices.Bindings(ctx, aor, secret.Token{})
	if err != nil {
		return err
	}
	bindings = slices.DeleteFunc(slices.Clone(bindings), func(b wake.Binding) bool { return !job.Many.wants(b) })
	if len(bindings) == 0 {
		job.Many.None++
		return nil
	}
	m := Message{ID: id, Owner: job.Owner, Job: job.ID, AOR: aor, Kind: job.Kind, From: job.From, Display: job.Display, Title: job.Title,
		Body: job.Body, Data: job.Data, CreatedAt: time.Now(), Deadline: job.Deadline}
	if m.Kind == push.Call || m.Kind == push.Cancel {
		m.Deadline = earlier(m.Deadline, m.CreatedAt.Add(callTTL))
	}
	return j.begin(ctx, &m, bindings)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
