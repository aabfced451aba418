package redis_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/store/redis"
)

// A name is 17 bytes if it can be had back from them, and as it is otherwise.
func TestPackDevice(t *testing.T) {
	t.Parallel()
	const id = "0193e1c4-09af-7000-8000-00000000abcd"
	parsed := uuid.MustParse(id)
	packed := string(parsed[:])
	for name, want := range map[string]string{
		"urn:uuid:" + id:                                "v" + packed,
		"<urn:uuid:" + id + ">":                         "u" + packed,
		"urn:uuid:0193E1C4-09AF-7000-8000-00000000ABCD": "=urn:uuid:0193E1C4-09AF-7000-8000-00000000ABCD",
		"urn:uuid:0193e1c409af700080000000000000abcd-":  "=urn:uuid:0193e1c409af700080000000000000abcd-",
		"urn:uuid:0193e1c4-09af-7000-8000+00000000abcd": "=urn:uuid:0193e1c4-09af-7000-8000+00000000abcd",
		"urn:uuid:0193e1c4-09af-7000-8000-00000000abc-": "=urn:uuid:0193e1c4-09af-7000-8000-00000000abc-",
		"urn:uuid:0193e1c4-09af-7000-8000-00000000abcg": "=urn:uuid:0193e1c4-09af-7000-8000-00000000abcg",
		"urn:uuid:" + id + "0":                          "=urn:uuid:" + id + "0",
		"urn:uuid:" + id[:35]:                           "=urn:uuid:" + id[:35],
		"<urn:uuid:" + id:                               "=<urn:uuid:" + id,
		"URN:uuid:" + id:                                "=URN:uuid:" + id,
		"phone-1":                                       "=phone-1",
		"<":                                             "=<",
		"":                                              "=",
	} {
		got := redis.PackDevice(name)
		if got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
		if back := redis.UnpackDevice([]byte(got)); back != name {
			t.Errorf("%q came back as %q", name, back)
		}
	}
}
