package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/limit"
)

// listener serves HTTP other than RPC, with a limited number of connections.
type listener struct {
	server *http.Server
	log    *limit.Log
	conns  *limit.Conns
	tls    *tls.Config // nil: plain HTTP
	open   net.Listener
	served chan error
}

// newListener returns a listener that is not listening yet. what is its name in the log.
func newListener(what string, h http.Handler, limits limit.ConnLimits, log *limit.Log) *listener {
	l := &listener{served: make(chan error, 1), log: log, conns: limit.NewConns(limits, log)}
	l.server = &http.Server{Handler: h, ErrorLog: newErrorLog(what, log), ConnState: l.track, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	return l
}

// track restarts a connection's idle time when data arrives on it.
func (l *listener) track(c net.Conn, state http.ConnState) {
	if state == http.StateActive || state == http.StateIdle {
		l.conns.Done(c)
	}
}

// start listens and serves. If serving ends before stop, it calls ended.
func (l *listener) start(addr string, ended func(error)) error {
	open, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	l.open = l.conns.Listen(open)
	if l.tls != nil {
		l.open = tls.NewListener(l.open, l.tls)
	}
	go func() {
		err := l.server.Serve(l.open)
		if !errors.Is(err, http.ErrServerClosed) {
			ended(err)
		}
		l.served <- err
	}()
	return nil
}

func (l *listener) addr() string { return l.open.Addr().String() }

func (l *listener) stop(context.Context) error {
	defer l.log.Close()
	err := l.server.Close() // an interrupted scrape is repeated
	if served := <-l.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// newErrorLog returns a logger for net/http, which uses package log.
func newErrorLog(what string, l *limit.Log) *log.Logger { return log.New(errorLog{what, l}, "", 0) }

type errorLog struct {
	what string
	log  *limit.Log
}

// Write logs a line.
func (e errorLog) Write(line []byte) (int, error) {
	e.log.Warn(e.what, "err", strings.TrimSpace(string(line)))
	return len(line), nil
}
