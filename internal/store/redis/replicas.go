package redis

import (
	"context"
	"errors"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// waitPatience is how long replicas have to confirm a write. The connection is blocked
// for that time. It is shorter than the deadline of an RPC.
const waitPatience = 200 * time.Millisecond

// errReplicas is the error of a write that too few replicas have confirmed. The write
// stays in the master, unless a replica without it takes over.
var errReplicas = errors.New("too few replicas have it")

// replicas makes a write succeed only when enough replicas have it. Redis acknowledges
// a write before it replicates it, so an acknowledged write is lost if the master dies
// in between. One WAIT follows the writes, in the same round trip on the same
// connection; the writes of many RPCs share it.
type replicas struct {
	want   int
	client *goredis.Client // the client of one server
}

// waitForReplicas adds the hook to the client of each server.
func waitForReplicas(client goredis.UniversalClient, want int) {
	switch c := client.(type) {
	case *goredis.Client:
		c.AddHook(replicas{want, c})
	case *goredis.ClusterClient:
		c.OnNewNode(func(c *goredis.Client) { c.AddHook(replicas{want, c}) })
	}
}

// DialHook implements goredis.Hook.
func (replicas) DialHook(next goredis.DialHook) goredis.DialHook { return next }

// ProcessHook implements goredis.Hook. A single write is sent as a pipeline.
func (r replicas) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if !writes(cmd) {
			return next(ctx, cmd)
		}
		p := r.client.Pipeline()
		_ = p.Process(ctx, cmd)
		_, err := p.Exec(ctx)
		return err
	}
}

// ProcessPipelineHook implements goredis.Hook.
func (r replicas) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		written := false
		for _, cmd := range cmds {
			written = written || writes(cmd)
		}
		if !written {
			return next(ctx, cmds)
		}
		wait := goredis.NewIntCmd(ctx, "wait", r.want, waitPatience.Milliseconds())
		all := append(append(make([]goredis.Cmder, 0, len(cmds)+1), cmds...), wait)
		err := next(ctx, all)
		if wait.Err() == nil && wait.Val() >= int64(r.want) {
			return err
		}
		failure := wait.Err()
		if failure == nil {
			failure = errReplicas
		}
		for _, cmd := range cmds {
			if writes(cmd) && (cmd.Err() == nil || errors.Is(cmd.Err(), goredis.Nil)) {
				cmd.SetErr(failure)
				err = failure
			}
		}
		return err
	}
}

// writes reports whether the command may change data.
func writes(cmd goredis.Cmder) bool {
	switch strings.ToLower(cmd.Name()) {
	case "evalsha", "eval", "set", "del", "hset", "zadd", "zrem":
		return true
	}
	return false
}
