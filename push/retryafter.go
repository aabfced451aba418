package push

import (
	"net/http"
	"strconv"
	"time"
)

// RetryAfter parses the value of a Retry-After header (RFC 9110 section 10.2.3) for
// Reply.RetryAfter. It returns zero if there is no valid value, and is never
// negative.
func RetryAfter(v string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
