package redis_test

import (
	"testing"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
)

func TestPeers(t *testing.T) {
	c := redis.Config{Addresses: []string{storetest.StartRedis(t)}, Prefix: "peers:"}
	storetest.RunPeers(t, open(t, c), open(t, c))
}
