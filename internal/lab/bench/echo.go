package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// Echo is the baseline: a bare fasthttp server that answers a request with its own body. It
// prints its address and serves until ctx ends.
func Echo(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	fmt.Println(l.Addr())
	server := &fasthttp.Server{NoDefaultServerHeader: true, NoDefaultDate: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType("application/json")
		ctx.SetBody(ctx.PostBody())
	}}
	stop := context.AfterFunc(ctx, func() { _ = server.Shutdown() })
	defer stop()
	return server.Serve(l)
}

// echoServer is Echo as a separate process, like sipwake.
type echoServer struct {
	*target
	pid int
}

func startEcho(ctx context.Context) (*echoServer, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self, "echo")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("cannot start echo: %w", err)
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	addr := strings.TrimSpace(string(line[:n]))
	if err != nil || addr == "" {
		stop()
		return nil, nil, errors.Join(errors.New("cannot start echo"), err)
	}
	return &echoServer{newTarget("http://" + addr + "/rpc"), cmd.Process.Pid}, stop, nil
}
