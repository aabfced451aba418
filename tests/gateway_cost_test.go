package tests

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/store/storetest"
)

// TestGatewayManyRefreshes: many registrations are refreshed time and again, and none is
// lost. With SIPWAKE_REFRESHES set to so many users it says what a refresh costs.
func TestGatewayManyRefreshes(t *testing.T) {
	t.Run("local", func(t *testing.T) { manyRefreshes(t, "") })
	t.Run("redis", func(t *testing.T) {
		manyRefreshes(t, "  type: redis\n  redis:\n    addresses: [\""+storetest.StartRedis(t)+"\"]\n    timeout: 10s")
	})
}

func manyRefreshes(t *testing.T, store string) {
	measure := os.Getenv("SIPWAKE_REFRESHES")
	users, err := strconv.Atoi(cmp.Or(measure, "40"))
	if err != nil {
		t.Fatal(err)
	}
	granted := 4 // each is refreshed after half of it
	if measure != "" {
		granted = 20
	}
	s, g := upperScenarioIn(t, store, "  rate: 2000", "CHILDREN=2", "GW_FR_MS=10000")
	for n := range users {
		s.granted(g, fmt.Sprintf("user%d", n), granted)
	}
	kamailio, pbx, redis := []int{g.PID()}, []int{g.pbx.PID()}, processes("redis-server")
	began, before := time.Now(), s.count("ok")
	cpu := func() [4]time.Duration {
		return [4]time.Duration{ownCPU(t), groupCPU(t, kamailio), groupCPU(t, pbx), groupCPU(t, redis)}
	}
	was := cpu()
	for s.count("ok") < before+3*users {
		if time.Since(began) > 2*patience {
			t.Fatalf("%d refreshes in %s", s.count("ok")-before, time.Since(began))
		}
		time.Sleep(100 * time.Millisecond)
	}
	done := s.count("ok") - before
	if n := s.count("retrying") + s.count("failed"); n != 0 {
		t.Errorf("%d refreshes came to nothing", n)
	}
	if measure == "" {
		return
	}
	is := cpu()
	t.Logf("%d refreshes, %.0f in a second", done, float64(done)/time.Since(began).Seconds())
	for i, who := range []string{"sipwake", "gateway", "PBX", "Redis"} {
		t.Logf("%s: %d us of CPU for each", who, (is[i]-was[i]).Microseconds()/int64(done))
	}
}

// granted tells sipwake what the PBX granted a user, who sleeps.
func (s *scenario) granted(g *gatewayProxy, user string, seconds int) {
	s.t.Helper()
	s.call("binding.register", obj{"node": nodeID, "aor": user + "@" + domain, "contact": apnsContact(user, s.newToken()), "call_id": user, "cseq": 1,
		"expires": seconds, "source": "udp:192.0.2.7:5060", "headers": obj{"X-PIID": ha1(user, passwordOf(user))},
		"upper": obj{"server": "sip:" + g.pbx.SIPAddress(), "set": "1", "uri": "sip:" + domain, "to": "sip:" + user + "@" + domain, "user": user,
			"realm": "pbx.example", "granted": strconv.Itoa(seconds)}}, nil)
}

// count is how many refreshes ended so.
func (s *scenario) count(result string) int {
	s.t.Helper()
	_, text := s.get("/metrics")
	m := regexp.MustCompile(`(?m)^sipwake_upper_refreshes_total{result="` + result + `"} (\d+)`).FindStringSubmatch(text)
	if m == nil {
		s.t.Fatal("no such metric")
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// groupCPU is what the processes of groups have used.
func groupCPU(t *testing.T, groups []int) (sum time.Duration) {
	t.Helper()
	eachProcess(func(_ string, stat []string) {
		for _, g := range groups {
			if stat[2] == strconv.Itoa(g) {
				user, _ := strconv.Atoi(stat[11])
				system, _ := strconv.Atoi(stat[12])
				sum += time.Duration(user+system) * 10 * time.Millisecond // of a hundred in a second
			}
		}
	})
	return sum
}

// processes are those of our own children with that name.
func processes(name string) (ids []int) {
	eachProcess(func(comm string, stat []string) {
		if strings.HasPrefix(name, comm) && stat[1] == strconv.Itoa(os.Getpid()) {
			group, _ := strconv.Atoi(stat[2])
			ids = append(ids, group)
		}
	})
	return ids
}

// eachProcess calls f with the name of each process, and what is behind it in its stat: state,
// parent, group; user and system time are 11 and 12.
func eachProcess(f func(comm string, stat []string)) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), "(")
		i := strings.LastIndex(rest, ")")
		if i < 0 {
			continue
		}
		f(rest[:i], strings.Fields(rest[i+1:]))
	}
}
