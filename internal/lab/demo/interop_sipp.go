package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// The load of SIPp.
const (
	sippCalls  = 100
	sippRate   = 20 // a second
	sippPhones = 10
)

// runSIPp lets SIPp call the users in turn. It returns how many calls followed its scenario
// and how many did not.
func runSIPp(ctx context.Context, s *stage, path, scenario string, users []string) (good, bad int, err error) {
	list := "SEQUENTIAL\n"
	for _, u := range users {
		list += u + ";" + demoDomain + "\n"
	}
	inf, err := s.writeFile("users.csv", []byte(list))
	if err != nil {
		return 0, 0, err
	}
	statistics := filepath.Join(s.dir, "sipp.csv")
	p, err := stack.StartProgram(ctx, "sipp", path, s.dir, []string{
		s.proxy.SIPAddress(), "-sf", scenario, "-inf", inf, "-i", "127.0.0.1", "-m", strconv.Itoa(sippCalls),
		"-r", strconv.Itoa(sippRate), "-nostdin", "-timeout", "60s", "-trace_stat", "-stf", statistics, "-fd", "1",
	}, nil)
	if err != nil {
		return 0, 0, err
	}
	defer p.Stop()
	s.logs = append(s.logs, p)
	select {
	case <-p.Exited():
	case <-ctx.Done():
		return 0, sippCalls, errors.New("SIPp did not end")
	}
	return readSIPp(statistics)
}

// readSIPp reads the last line of SIPp's statistics.
func readSIPp(file string) (good, bad int, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, err
	}
	rows := strings.Split(strings.TrimSpace(string(text)), "\n")
	names, values := strings.Split(rows[0], ";"), strings.Split(rows[len(rows)-1], ";")
	found := 0
	for i, name := range names {
		if i >= len(values) {
			break
		}
		switch name {
		case "SuccessfulCall(C)":
			found++
			good, err = strconv.Atoi(values[i])
		case "FailedCall(C)":
			found++
			bad, err = strconv.Atoi(values[i])
		}
		if err != nil {
			return 0, 0, fmt.Errorf("cannot read the statistics of SIPp: %w", err)
		}
	}
	if found != 2 {
		return 0, 0, errors.New("SIPp has left no statistics")
	}
	return good, bad, nil
}

// load lets SIPp call phones that sleep at first.
func (r *interop) load(ctx context.Context) {
	title := fmt.Sprintf("SIPp makes %d calls, %d a second, to %d phones of the lab that sleep at first", sippCalls, sippRate, sippPhones)
	if r.clients.sipp == "" {
		fmt.Printf("skipped: %s\n", title)
		return
	}
	r.calls += sippCalls
	phones, err := r.sleepers(ctx)
	defer func() {
		for _, p := range phones {
			p.Close()
		}
	}()
	if err != nil {
		fmt.Printf("FAILED:  %s: %v\n", title, err)
		return
	}
	var users []string
	for n := range phones {
		users = append(users, sleeper(n).user)
	}
	good, bad, err := runSIPp(ctx, &r.stage, r.clients.sipp, filepath.Join(r.dir, "calls.xml"), users)
	if err == nil {
		err = sleepersRung(phones, &r.stage)
	}
	if err != nil || bad > 0 || good != sippCalls {
		fmt.Printf("FAILED:  %s: %d succeeded, %d failed, %v\n", title, good, bad, err)
		if err == nil {
			r.good += good
		}
		return
	}
	r.good += good
	fmt.Printf("ok:      %s\n", title)
}

func sleeper(n int) scene {
	return scene{
		user: fmt.Sprintf("sleeper%d", n), params: fcmParams, token: fmt.Sprintf("fcm-token-of-sleeper-%d", n), phone: answersSoon(),
	}
}

func (r *interop) sleepers(ctx context.Context) (phones []*phone.Phone, err error) {
	for n := range sippPhones {
		sc := sleeper(n)
		p, err := r.newPhone(ctx, &sc)
		if p != nil {
			phones = append(phones, p)
		}
		if err != nil {
			return phones, err
		}
	}
	return phones, nil
}

// sleepersRung checks that each phone was pushed, and got each of its calls once.
func sleepersRung(phones []*phone.Phone, s *stage) error {
	for n, p := range phones {
		if s.pushes(sleeper(n).token) == 0 {
			return fmt.Errorf("phone %d was not pushed", n)
		}
		calls := make(map[string]bool)
		for _, m := range p.Requests("INVITE") {
			calls[m.CallID()] = true
		}
		if len(calls) != sippCalls/sippPhones {
			return fmt.Errorf("phone %d was rung by %d calls, not %d", n, len(calls), sippCalls/sippPhones)
		}
	}
	return nil
}

// answersSoon returns the configuration of a phone that answers every call.
func answersSoon() phone.Config {
	return phone.Config{Behaviour: phone.Answer(50 * time.Millisecond), WakeDelay: 20 * time.Millisecond}
}
