package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
)

// notifier reports the state of the service to systemd, see sd_notify(3). Without
// NOTIFY_SOCKET it does nothing. Safe for concurrent use.
type notifier struct {
	conn net.Conn // nil: do nothing
	log  *slog.Logger
}

// newNotifier opens the socket of NOTIFY_SOCKET. If that fails, it only logs the error:
// the variable may have been inherited by mistake.
func newNotifier(log *slog.Logger) *notifier {
	n := &notifier{log: log}
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return n
	}
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		log.Warn("cannot open systemd's socket", "err", err)
		return n
	}
	n.conn = conn
	return n
}

func (n *notifier) close() {
	if n.conn != nil {
		n.conn.Close()
	}
}

// send sends variable assignments, one per line.
func (n *notifier) send(state string) {
	if n.conn == nil {
		return
	}
	if _, err := n.conn.Write([]byte(state)); err != nil {
		n.log.Warn("cannot notify systemd", "err", err)
	}
}

func (n *notifier) ready(status string) { n.send("READY=1\nSTATUS=" + status) }

// reloading reports that a reload has begun; ready ends it.
func (n *notifier) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic("BUG: " + err.Error()) // every Unix has this clock
	}
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\nSTATUS=Reloading the configuration", now.Nano()/1000))
}

func (n *notifier) stopping() { n.send("STOPPING=1\nSTATUS=Finishing what is queued") }

// watchdogInterval returns how long systemd waits for a watchdog notification; 0 if it
// expects none.
func watchdogInterval() (time.Duration, error) {
	usec, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	if usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 {
		return 0, errors.New("cannot use WATCHDOG_USEC: it must be a number of microseconds above 0")
	}
	return time.Duration(n) * time.Microsecond, nil
}

// watch calls alive three times per interval until ctx ends, and notifies systemd each
// time that it returns nil. If alive keeps failing, systemd restarts the service.
func (n *notifier) watch(ctx context.Context, interval time.Duration, alive func(context.Context) error) {
	pause := interval / 3
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		patience, cancel := context.WithTimeout(ctx, pause)
		err := alive(patience)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			n.log.Error("the service does not answer, systemd will restart it", "err", err)
		default:
			n.send("WATCHDOG=1")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// unitCredentials is where systemd keeps the credentials of the packaged unit while it
// runs. With it, `sipwake check` and `sipwake trace` run by root can find them.
const unitCredentials = "/run/credentials/sipwake.service"

// credentialsDir returns where systemd keeps the credentials of the service, "" if it has
// none.
func credentialsDir() string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		if info, err := os.Stat(unitCredentials); err == nil && info.IsDir() {
			dir = unitCredentials
		}
	}
	return dir
}

// loadConfig loads the configuration of the service, with its systemd credentials.
func loadConfig(path string) (*config.Config, error) {
	cfg, err := config.LoadWithCredentials(path, credentialsDir())
	if err != nil && cfg != nil {
		_, err = app.Apps(cfg) // also reports problems of the files that it names
	}
	if err != nil {
		return nil, err
	}
	return cfg, nil
}
