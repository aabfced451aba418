package tests

import (
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Several nodes, when something goes wrong.

// TestClusterRaces: calls at one node and registrations at the other one that meet.
// Every call is answered, and no phone is rung twice.
func TestClusterRaces(t *testing.T) {
	c := newCluster(t, clusterOptions{sipwakes: true, rig: rigOptions{recent: 20 * time.Second}})
	const rounds, atOnce = 200, 10
	s := c.scenario(t)
	var wg sync.WaitGroup
	slots, results := make(chan struct{}, atOnce), make(chan string, rounds)
	for range rounds {
		slots <- struct{}{}
		one := *s
		one.nextUser()
		wg.Go(func() {
			defer func() { <-slots }()
			results <- one.meet()
		})
	}
	wg.Wait()
	close(results)
	tally := make(map[string]int)
	for r := range results {
		tally[r]++
	}
	t.Logf("%v", tally)
	if n := tally["woken, call first"] + tally["woken, phone first"]; n != rounds {
		t.Errorf("%d of %d woken", n, rounds)
	}
	if len(tally) != 2 {
		t.Error("not both ways round, or worse")
	}
}

// meet has the call come just before or after the phone's REGISTER. It runs beside
// others and must not end the test by itself.
func (s *scenario) meet() string {
	d := s.iphone(answers, stubborn)
	for _, expires := range []time.Duration{600 * time.Second, 0} {
		if m, err := d.Register(s.ctx, expires); err != nil || m.Code() != 200 {
			return fmt.Sprintf("REGISTER: %v", err)
		}
		if !s.knowsPhone(s.aor(), expires > 0) {
			return "sipwake does not know the phone"
		}
	}
	d.Sleep()
	if err := d.Open(s.ctx); err != nil {
		return err.Error()
	}
	head := time.Duration(rand.N(40)-20) * time.Millisecond
	registered := make(chan error, 1)
	go func() {
		time.Sleep(max(0, head))
		_, err := d.SendRegister(s.ctx, 600*time.Second)
		registered <- err
	}()
	time.Sleep(max(0, -head))
	call, err := s.caller().Invite(s.ctx, s.user, phone.InviteOptions{})
	if err != nil {
		return err.Error()
	}
	if err := <-registered; err != nil {
		return err.Error()
	}
	res, err := call.Final(s.ctx)
	if err != nil {
		return err.Error()
	}
	if n := len(d.Requests("INVITE")); res.Code != 200 || n != 1 {
		return fmt.Sprintf("%d, %d INVITEs", res.Code, n)
	}
	if _, err := call.Bye(s.ctx); err != nil {
		return err.Error()
	}
	if s.timeline(call.CallID()).count("pushing") == 0 {
		return "woken, phone first"
	}
	return "woken, call first"
}

// knowsPhone waits until sipwake has the user's only phone, registered or not any more.
func (r *rig) knowsPhone(aor string, registered bool) bool {
	for range 2000 {
		var res struct {
			Bindings []struct {
				Expires time.Time `json:"expires_at"`
			}
		}
		r.call("binding.list", obj{"aor": aor}, &res)
		if len(res.Bindings) == 1 && res.Bindings[0].Expires.After(time.Now()) == registered {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// pausesReplication stops the process of node a that takes in what other nodes have
// registered. Messages to it wait.
func (c *cluster) pausesReplication(s *scenario) (resume func()) {
	s.t.Helper()
	text := must(c.a.kamailio.Command(s.ctx, "core.psx"))(s)
	found := regexp.MustCompile(`PID: (\d+)\s+DSC: DMQ WORKER`).FindStringSubmatch(text)
	if found == nil {
		s.t.Fatalf("no DMQ worker:\n%s", text)
	}
	pid, _ := strconv.Atoi(found[1])
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	resume = sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	s.t.Cleanup(resume)
	return resume
}

// signals waits until node a has given an answer to signals n times.
func (c *cluster) signals(s *scenario, answer string, n int) {
	s.t.Helper()
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^sipwake_node_signals_total\{node=%q,result=%q\} (\d+)`, clusterNodes[0], answer))
	eventually(s.t, answer, func() bool {
		_, text := c.b.get("/metrics")
		found := line.FindStringSubmatch(text)
		if found == nil {
			return false
		}
		got, _ := strconv.Atoi(found[1])
		return got >= n
	})
}

// TestClusterLateReplication: the signal is there before the registration is.
func TestClusterLateReplication(t *testing.T) {
	t.Parallel()
	for name, sipwakes := range map[string]bool{"one sipwake": false, "two sipwakes": true} {
		t.Run(name, func(t *testing.T) {
			strict := map[string]string{"SIPWAKE_STRICT": ""} // only the signal rings
			c := newCluster(t, clusterOptions{sipwakes: sipwakes, defines: strict})
			t.Run("late", func(t *testing.T) {
				s := c.scenario(t)
				d := s.iphone(tcp, stubborn, answers)
				s.asleep(d)
				call := s.calls()
				s.pushed(d)
				resume := c.pausesReplication(s)
				s.wakes(d)
				// Longer than a node is asked for this very registration.
				c.signals(s, "nocontact", 8)
				s.rung(d.Phone, 0)
				resume()
				call.talks(d.Phone)
				s.rung(d.Phone, 1)
				call.over("answered")
			})
			// The node has an older registration of the same contact, and the new one
			// gets lost: after a while it uses the older one.
			t.Run("never", func(t *testing.T) {
				s := c.scenario(t)
				d := s.iphone(answers, stubborn)
				s.registered(d.Phone)
				s.forgotten(1)
				s.located(c.a, 1)
				d.SleepDeaf()
				call := s.calls()
				s.pushed(d)
				defer c.pausesReplication(s)()
				s.wakes(d)
				call.talks(d.Phone)
				s.rung(d.Phone, 1)
				call.over("answered")
			})
		})
	}
}

// TestClusterNodeDies: the node that took the REGISTER dies before the phone is rung
// through it. The phone finds the other one.
func TestClusterNodeDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{mortal: true, sipwakes: true})
	s := c.scenario(t)
	d := s.iphone(tcp, stubborn, answers)
	s.asleep(d)
	call := s.calls()
	s.pushed(d)
	resume := c.pausesReplication(s)
	s.wakes(d)
	c.signals(s, "nocontact", 1)
	c.b.kamailio.Kill()
	must(d.Next(s.ctx, phone.Lost))(s)
	resume()
	c.signals(s, "added", 1)
	s.rung(d.Phone, 0)
	s.at(c.a).uses(d.Phone)
	s.wakes(d)
	call.talks(d.Phone)
	s.rung(d.Phone, 1)
	call.over("answered")
}

// TestClusterCallNodeDies: the node that holds the call dies with it. sipwake stops
// signalling it when the hold time is over, and everything else works.
func TestClusterCallNodeDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{mortal: true, rig: rigOptions{wake: "  linger: 1s\n  max_hold: 4s"}})
	s := c.scenario(t)
	d := s.iphone(tcp, stubborn, answers)
	s.asleep(d)
	s.calls()
	s.pushed(d)
	c.a.kamailio.Kill()
	s.wakes(d)
	c.signals(s, "error", 2)
	s.rung(d.Phone, 0)

	// Meanwhile the node that lives wakes others.
	other := *s
	other.callAt = ""
	other.nextUser()
	e := other.iphone(answers)
	other.asleep(e)
	other.calls().talks(e.Phone)

	eventually(t, "sipwake gives the dead node up", func() bool {
		return strings.Contains(c.a.logs.String(), `"msg":"cannot signal node","node":"`+clusterNodes[0]+`"`)
	})
	eventually(t, "its hold time is over", func() bool { return strings.Contains(c.a.trace(s.aor()), "hold over") })
	s.rung(d.Phone, 0)
}

// TestClusterTrust: what a node believes, and whom.
func TestClusterTrust(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{})
	c.run(t, scenarios{
		"each node has a secret of its own":   c.secrets,
		"registrations come from other nodes": c.strangersRegistration,
		"requests with a Route, too":          c.strangersRoute,
	})
}

func (c *cluster) secrets(s *scenario) {
	d := s.iphone(stubborn)
	s.asleep(d)
	call := s.calls()
	s.pushed(d)
	holds := s.at(c.a)
	key := obj{"call": holds.heldKey()}
	for secret, want := range map[string]int{secretOf(clusterNodes[1]): 403, nodeSecret: 403, "": 403} {
		if code, _ := holds.signal(secret, "give_up", key); code != want {
			s.t.Errorf("a signal with the secret %q got HTTP %d, want %d", secret, code, want)
		}
	}
	// The other node knows no such call.
	if code, status := s.signal(secretOf(clusterNodes[1]), "give_up", key); code != 200 || status != "gone" {
		s.t.Errorf("the other node: HTTP %d, %q", code, status)
	}
	if code, status := holds.signal(secretOf(clusterNodes[0]), "give_up", key); code != 200 || status != "ok" {
		s.t.Errorf("with its own secret: HTTP %d, %q", code, status)
	}
	call.ends(480)
}

// strangersRegistration: a message of dmq_usrloc, once from the address of the other
// node and once from that of a stranger.
func (c *cluster) strangersRegistration(s *scenario) {
	text := must(c.a.kamailio.Command(s.ctx, "dmq.list_nodes"))(s)
	host, _, _ := net.SplitHostPort(c.a.kamailio.SIPAddress())
	port := regexp.MustCompile(`host: ` + regexp.QuoteMeta(host) + `\n\s+port: (\d+)`).FindStringSubmatch(text)
	if port == nil {
		s.t.Fatal(text)
	}
	peer, _, _ := net.SplitHostPort(c.b.kamailio.SIPAddress())
	for from, want := range map[string]int{"127.0.0.1": 0, peer: 1} {
		s.nextUser()
		conn := must(net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, must(net.ResolveUDPAddr("udp", host+":"+port[1]))(s)))(s)
		defer conn.Close()
		body := fmt.Sprintf(`{"action":1,"aor":%q,"ruid":"uloc-%s","c":"sip:thief@192.0.2.66","received":"","path":"","callid":"x",`+
			`"user_agent":"x","instance":"","expires":%d,"cseq":1,"flags":0,"cflags":0,"q":-1,"last_modified":%d,"methods":8191,"reg_id":0,"server_id":0}`,
			s.user, s.user, time.Now().Unix()+600, time.Now().Unix())
		fmt.Fprintf(conn, "KDMQ sip:usrloc@%[1]s SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[3]s\r\nMax-Forwards: 1\r\n"+
			"From: <sip:usrloc@%[2]s>;tag=%[3]s\r\nTo: <sip:usrloc@%[1]s>\r\nCall-ID: %[3]s\r\nCSeq: 1 KDMQ\r\n"+
			"Content-Type: application/json\r\nContent-Length: %[4]d\r\n\r\n%[5]s",
			conn.RemoteAddr(), conn.LocalAddr(), s.user, len(body), body)
		// The node answers after it has executed the signal.
		_ = conn.SetReadDeadline(time.Now().Add(map[int]time.Duration{0: time.Second, 1: scenarioTimeout}[want]))
		if _, err := conn.Read(make([]byte, 2048)); (err == nil) != (want == 1) {
			s.t.Errorf("from %s: %v", from, err)
		}
		s.located(c.a, want)
	}
}

// strangersRoute: a Route of a node with the address of somebody.
func (c *cluster) strangersRoute(s *scenario) {
	target := s.phone(answers)
	if err := target.Open(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	route := fmt.Sprintf("<sip:%s;lr;received=sip:%s%%3Btransport%%3Dudp>", s.proxy.SIPAddress(), target.LocalAddr())
	peer, _, _ := net.SplitHostPort(c.a.kamailio.SIPAddress())
	for host, code := range map[string]int{"127.0.0.1": 480, peer: 200} {
		before := len(target.Requests("INVITE"))
		caller := s.phoneOf("stranger", func(c *phone.Config) { c.Host = host })
		call := must(caller.Invite(s.ctx, "sip:"+s.user+"@192.0.2.1", phone.InviteOptions{Headers: map[string]string{"Route": route}}))(s)
		res := must(call.Final(s.ctx))(s)
		if n := len(target.Requests("INVITE")) - before; res.Code != code || n != map[int]int{480: 0, 200: 1}[code] {
			s.t.Errorf("from %s: %d, and %d INVITEs reached the phone; want %d", host, res.Code, n, code)
		}
	}
}

// TestClusterWrongSecret: sipwake shows a node another secret than that one wants. It
// says so, and the next call is woken once the secret is right.
func TestClusterWrongSecret(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{rig: rigOptions{wake: "  linger: 1s\n  max_hold: 4s"}})
	s := c.scenario(t)
	right := secretOf(clusterNodes[0])
	c.a.write(clusterNodes[0]+".secret", secretOf(clusterNodes[1]))
	c.a.reload()
	d := s.iphone(answers)
	s.asleep(d)
	call := s.calls()
	c.signals(s, "error", 2)
	call.ends(480)
	s.rung(d.Phone, 0)
	eventually(t, "the log says what is wrong", func() bool {
		return strings.Contains(c.a.logs.String(), "it refused the secret: compare secret_file with the node's SIPWAKE_SECRET")
	})
	if strings.Contains(c.a.logs.String(), right) {
		t.Error("the log shows a secret")
	}
	c.a.write(clusterNodes[0]+".secret", right)
	c.a.reload()
	s.falls(d)
	second := s.calls()
	// It may be told that the first call is over.
	for in := must(d.WaitInvite(s.ctx))(s); ; in = must(d.WaitInvite(s.ctx))(s) {
		if in.Request.CallID() == second.CallID() {
			second.talksOn(d.Phone, in)
			return
		}
	}
}
