package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push/acrobits"
)

// The paths at which apps report their tokens, and that an account was removed.
const (
	reportPath  = "/acrobits/token"
	removedPath = "/acrobits/removed"
)

const (
	// maxReportClients is how many clients get their own rate limit. Further clients
	// share one.
	maxReportClients = 65536
	// reportTime limits how long the store may take.
	reportTime = 5 * time.Second
)

// The results of reports.
const (
	reportStored    = "stored"
	reportRemoved   = "removed"
	reportForbidden = "forbidden" // not the user's key
	reportInvalid   = "invalid"
	reportFailed    = "failed"  // the store is unavailable
	reportLimited   = "limited" // too many from one client; not read
)

// newReportMetrics returns the counter of reports, by result.
func newReportMetrics(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sipwake_acrobits_reports_total",
		Help: "Reports of apps made with Acrobits' SDK, by result."}, []string{"result"})
	for _, result := range []string{reportStored, reportRemoved, reportForbidden, reportInvalid, reportFailed, reportLimited} {
		c.WithLabelValues(result)
	}
	reg.MustRegister(c)
	return c
}

// reportsListener accepts reports of apps and does nothing else, so that it can be exposed
// to the internet.
func (a *App) reportsListener(c acrobits.Config, log *limit.Log) *listener {
	rates, rate := limit.New[netip.Addr](maxReportClients), limit.Per(time.Second, *c.RateLimit)
	count := newReportMetrics(a.reg)
	h := func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Type", "text/plain; charset=utf-8")
		head.Set("Cache-Control", "no-store")
		head.Set("X-Content-Type-Options", "nosniff")
		peer, _ := netip.ParseAddrPort(r.RemoteAddr)
		status, text := http.StatusOK, "OK"
		switch {
		case !rates.Take(limit.Client(peer.Addr().Unmap()), rate, time.Now()):
			count.WithLabelValues(reportLimited).Inc()
			log.Warn("reports of an app are refused: too many from one client", "client", peer.Addr().Unmap())
			head.Set("Retry-After", "1")
			status, text = http.StatusTooManyRequests, "too many requests"
		case r.URL.Path != reportPath && r.URL.Path != removedPath:
			status, text = http.StatusNotFound, "not found"
		case r.Method != http.MethodGet && r.Method != http.MethodPost:
			head.Set("Allow", "GET, POST")
			status, text = http.StatusMethodNotAllowed, "GET or POST only"
		default:
			r.Body = http.MaxBytesReader(w, r.Body, acrobits.MaxBody)
			result, err := a.report(r)
			count.WithLabelValues(result).Inc()
			switch result {
			case reportForbidden:
				status, text = http.StatusForbidden, err.Error()
			case reportInvalid:
				status, text = http.StatusBadRequest, err.Error()
			case reportFailed:
				log.Warn("cannot store what an app has reported", "err", err)
				status, text = http.StatusServiceUnavailable, "try again"
			}
		}
		w.WriteHeader(status)
		fmt.Fprintln(w, text)
	}
	l := newListener("acrobits listener", http.HandlerFunc(h), limit.ConnLimits{
		Most: c.Connections, Unproven: c.Connections, PerClient: max(1, c.Connections/8)}, log)
	l.server.ReadTimeout, l.server.WriteTimeout, l.server.IdleTimeout = 5*time.Second, 10*time.Second, 10*time.Second
	return l
}

// report processes one report. No error quotes the report.
func (a *App) report(r *http.Request) (result string, err error) {
	reports := a.reports.Load()
	user, key, report, err := reports.Read(r)
	if err != nil {
		return reportInvalid, err
	}
	aor, err := wake.CleanAOR(user)
	if err != nil {
		return reportForbidden, acrobits.ErrForbidden
	}
	if err := reports.Judge(aor, key, &report); errors.Is(err, acrobits.ErrForbidden) {
		return reportForbidden, err
	} else if err != nil {
		return reportInvalid, err
	}
	address, err := report.Address()
	if err != nil {
		return reportInvalid, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), reportTime)
	defer cancel()
	if r.URL.Path == removedPath {
		_, err := a.service.RemoveBindings(ctx, wake.Caller{}, aor, deviceOf(&report, address), address.Tokens[0].Value)
		return outcomeOf(reportRemoved, err)
	}
	b := wake.Binding{AOR: aor, Device: deviceOf(&report, address), Address: address, UserAgent: bounded(r.UserAgent()),
		RegisteredAt: time.Now()}
	b.CallID = b.Device
	_, err = a.service.Import(ctx, []wake.Binding{b})
	return outcomeOf(reportStored, err)
}

// deviceOf returns a name for the phone, made from the app's name for its installation or
// from its address.
func deviceOf(r *acrobits.Report, a pnparam.Address) string {
	if r.Device != "" && len(r.Device) <= 128 {
		return "acrobits:" + r.Device
	}
	return pnparam.DeviceID(a)
}

func bounded(s string) string { return s[:min(len(s), 256)] }

// outcomeOf distinguishes errors of the report from errors of the store.
func outcomeOf(done string, err error) (string, error) {
	if p := (*wake.ParamError)(nil); errors.As(err, &p) {
		return reportInvalid, errors.New("the report is not valid: " + p.Field)
	}
	if err != nil {
		return reportFailed, err
	}
	return done, nil
}

// startReports opens the listener for apps' reports if one is configured.
func (a *App) startReports() error {
	if !a.cfg.Acrobits.On() {
		return nil
	}
	l := a.reportsListener(a.cfg.Acrobits, limit.NewLog(a.log))
	if a.cfg.Acrobits.CertFile != "" {
		l.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.reportsCert.Load(), nil
		}}
	}
	if err := l.start(a.cfg.Acrobits.Listen, a.ended("acrobits listener")); err != nil {
		return problem(a.cfg, "acrobits.listen", err)
	}
	a.reporting = l
	a.onStop("acrobits listener", l.stop)
	return nil
}

// ReportsAddr returns the address of the listener for reports, after Start; empty
// without one.
func (a *App) ReportsAddr() string {
	if a.reporting == nil {
		return ""
	}
	return a.reporting.addr()
}
