package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/services"
)

// control is an HTTP server on loopback that controls a lab, with plain text: GET shows,
// POST changes.
type control struct {
	url  string
	http *http.Server
	done chan struct{}
}

// startControl listens on 127.0.0.1, on this port or, if it is 0, on a free one.
func startControl(port int, handler http.Handler) (*control, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the control: %w", err)
	}
	// A web page in a browser must not control the lab.
	handler = http.NewCrossOriginProtection().Handler(handler)
	c := &control{url: "http://" + listener.Addr().String(), done: make(chan struct{}),
		http: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}}
	go func() {
		defer close(c.done)
		if err := c.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic("BUG: the control stopped serving: " + err.Error())
		}
	}()
	return c, nil
}

func (c *control) close() {
	_ = c.http.Close() // an error of the listener does not matter
	<-c.done
}

// answering returns a handler that answers with the text that f returns.
func answering(f func(r *http.Request) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		text, err := f(r.WithContext(ctx))
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			text = err.Error()
		}
		fmt.Fprintln(w, strings.TrimSuffix(text, "\n"))
	}
}

func (l *lab) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", answering(func(r *http.Request) (string, error) { return l.help("http://" + r.Host), nil }))
	mux.Handle("GET /phones", answering(func(*http.Request) (string, error) { return l.listPhones(), nil }))
	mux.Handle("POST /phones/{phone}/{what}", answering(l.postPhone))
	mux.Handle("POST /phones/{phone}/push/{behaviour}", answering(l.postPhonePush))
	mux.Handle("POST /providers/{service}/{behaviour}", answering(func(r *http.Request) (string, error) { return behave(l.services, r) }))
	mux.Handle("GET /providers", answering(func(*http.Request) (string, error) { return listBehaviours(), nil }))
	mux.Handle("GET /calls", answering(func(*http.Request) (string, error) { return l.listCalls(), nil }))
	mux.Handle("POST /calls/{from}/{to}", answering(l.postCall))
	mux.Handle("POST /calls/{call}/hangup", answering(l.postHangUp))
	return mux
}

func (l *lab) help(url string) string {
	return fmt.Sprintf(`%[1]s
Ask it with curl. What shows:
  curl %[2]s/phones      the phones and what they do
  curl %[2]s/providers   how push services can fail
  curl %[2]s/calls       the last calls, and how to see why they ended so

What changes:
  curl -X POST %[2]s/calls/alice/ivan             alice calls ivan; any name will do, a softphone of yours too
  curl -X POST %[2]s/calls/1/hangup               the caller of call 1 hangs up
  curl -X POST %[2]s/phones/ivan/sleep            ivan's phone sleeps, or: wake, deaf (takes pushes, never registers), drop
  curl -X POST %[2]s/phones/ivan/busy             what ivan does with calls, or: answer, decline, ring
  curl -X POST %[2]s/phones/ivan/push/unregistered   how ivan's push service treats him alone; works: as all
  curl -X POST %[2]s/providers/apns/unavailable   how a push service treats all; works: well again

%[3]s`, l.addresses(), url, l.listPhones())
}

func (l *lab) listPhones() string {
	var text strings.Builder
	text.WriteString("Phones:\n")
	for _, r := range l.phones {
		r.mu.Lock()
		state, pushes := r.state, r.pushes
		r.mu.Unlock()
		if r.deaf.Load() {
			state += ", deaf"
		}
		if pushes == "" {
			pushes = "-"
		}
		fmt.Fprintf(&text, "  %-8s %-18s %-14s push: %-14s at the start: %s\n", r.name, r.serviceName(), state, pushes, r.about)
	}
	return text.String()
}

func listBehaviours() string {
	var text strings.Builder
	text.WriteString("Push services can be told to behave so:\n")
	for _, b := range services.Behaviours() {
		var who []string
		for _, name := range services.Names() {
			if b.Knows(name) {
				who = append(who, name)
			}
		}
		fmt.Fprintf(&text, "  %-14s %-52s %s\n", b.Name, b.Meaning, strings.Join(who, " "))
	}
	return text.String()
}

func (l *lab) listCalls() string {
	calls := l.calls.last()
	if len(calls) == 0 {
		return "no calls yet"
	}
	var text strings.Builder
	for _, c := range calls {
		fmt.Fprintf(&text, "%d  %s  %s calls %s: %s\n   %s\n", c.number, c.at.Format(time.TimeOnly), c.from, c.to, c.state(), l.traceCommand(c.CallID()))
	}
	return text.String()
}

// behave sets the behaviour of a service.
func behave(s *services.Services, r *http.Request) (string, error) {
	service, behaviour := r.PathValue("service"), r.PathValue("behaviour")
	if err := s.Behave(service, behaviour); err != nil {
		return "", err
	}
	return service + " is from now on: " + behaviour, nil
}

func (l *lab) asked(r *http.Request) (*resident, error) {
	name := r.PathValue("phone")
	if p := l.phone(name); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no phone %q in the lab", name)
}

func (l *lab) postPhone(r *http.Request) (string, error) {
	p, err := l.asked(r)
	if err != nil {
		return "", err
	}
	done, err := l.act(r.Context(), p, r.PathValue("what"))
	return p.name + " " + done, err
}

func (l *lab) postPhonePush(r *http.Request) (string, error) {
	p, err := l.asked(r)
	if err != nil {
		return "", err
	}
	behaviour := r.PathValue("behaviour")
	return p.service + " is to " + p.name + " from now on: " + behaviour, l.failFor(p, behaviour)
}

func (l *lab) postCall(r *http.Request) (string, error) {
	to := r.PathValue("to")
	if strings.ContainsFunc(to, func(c rune) bool { return c <= ' ' || strings.ContainsRune(`<>";,?`, c) || c > '~' }) {
		return "", fmt.Errorf("%q is no user", to)
	}
	c, err := l.dial(r.Context(), r.PathValue("from"), to)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("call %d: %s calls %s, Call-ID %s\nsee what becomes of it: %s", c.number, c.from, c.to, c.CallID(), l.traceCommand(c.CallID())), nil
}

func (l *lab) postHangUp(r *http.Request) (string, error) {
	c := l.calls.call(r.PathValue("call"))
	if c == nil {
		return "", errors.New("no such call")
	}
	if err := c.hangUp(r.Context()); err != nil {
		return "", err
	}
	return fmt.Sprintf("call %d: the caller has hung up", c.number), nil
}
