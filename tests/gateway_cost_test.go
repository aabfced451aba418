package tests

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/storetest"
)

// TestGatewayManyRefreshes: many registrations are refreshed time and again, and none is
// lost. With SIPWAKE_REFRESHES set to so many users it says what a refresh costs.
func TestGatewayManyRefreshes(t *testing.T) {
	t.Parallel()
	t.Run("local", func(t *testing.T) { manyRefreshes(t, "", func() time.Duration { return 0 }) })
	t.Run("redis", func(t *testing.T) {
		redis := storetest.StartRedis(t)
		manyRefreshes(t, "  type: redis\n  redis:\n    addresses: [\""+redis+"\"]\n    timeout: 10s", func() time.Duration { return redisCPU(t, redis) })
	})
}

func manyRefreshes(t *testing.T, store string, storeCPU func() time.Duration) {
	measure := os.Getenv("SIPWAKE_REFRESHES")
	users, err := strconv.Atoi(cmp.Or(measure, "40"))
	if err != nil {
		t.Fatal(err)
	}
	granted := 4 // each is refreshed after half of it
	if measure != "" {
		granted = 20
	}
	s, g := upperScenarioIn(t, store, "  rate: 2000", "CHILDREN=2", "GW_FR_MS=10000", "MEMORY=768")
	s.editConfig("  level: debug", "  level: warn")
	for n := range users {
		s.granted(g, fmt.Sprintf("user%d", n), granted)
	}
	began, before := time.Now(), s.count("ok")
	cpu := func() [4]time.Duration {
		return [4]time.Duration{ownCPU(t), groupCPU(g.PID()), groupCPU(g.pbx.PID()), storeCPU()}
	}
	was := cpu()
	for s.count("ok") < before+3*users {
		if time.Since(began) > 2*scenarioTimeout {
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

// granted reports to sipwake what the PBX granted a sleeping user.
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

// groupCPU is what the processes of a group have used.
func groupCPU(group int) (sum time.Duration) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// Behind the name: state, parent, group; user and system time are 11 and 12.
		stat := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(stat) < 13 || stat[2] != strconv.Itoa(group) {
			continue
		}
		user, _ := strconv.Atoi(stat[11])
		system, _ := strconv.Atoi(stat[12])
		sum += time.Duration(user+system) * 10 * time.Millisecond // a hundred in a second
	}
	return sum
}

// redisCPU is what a Redis says that it has used.
func redisCPU(t *testing.T, addr string) (sum time.Duration) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 4096)
	fmt.Fprint(c, "INFO cpu\r\n")
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`used_cpu_(?:sys|user):([0-9.]+)`).FindAllSubmatch(b[:n], -1) {
		seconds, _ := strconv.ParseFloat(string(m[1]), 64)
		sum += time.Duration(seconds * float64(time.Second))
	}
	return sum
}
