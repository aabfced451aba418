// Package metric has the settings that all histograms share: native buckets beside the
// classic ones, and exemplars.
package metric

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Other is the label of every app or push service that is not configured, so that input
// of strangers never becomes a label.
const Other = "other"

const (
	nativeFactor  = 1.1 // the largest growth from one bucket to the next
	nativeBuckets = 100 // the most buckets; above that they become wider
	nativeReset   = time.Hour
)

// Histogram returns the options of a histogram with these classic buckets, and at most
// 100 native buckets for a Prometheus that scrapes them.
func Histogram(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: nativeFactor,
		NativeHistogramMaxBucketNumber: nativeBuckets, NativeHistogramMinResetDuration: nativeReset}
}

// Exemplars says whether observations have an exemplar that names the call.
type Exemplars bool

// CallHash is the label of an exemplar; its value is a Hash.
const CallHash = "call_hash"

// Hash returns the first 16 hexadecimal digits of the SHA-256 of a Call-ID. With the
// Call-ID one can find its exemplars, but the metrics do not reveal it.
func Hash(callID string) string {
	sum := sha256.Sum256([]byte(callID))
	return hex.EncodeToString(sum[:8])
}

// Observe adds an observation, with an exemplar if e is true and callID is not empty.
func (e Exemplars) Observe(to prometheus.Observer, value float64, callID string) {
	if named, ok := to.(prometheus.ExemplarObserver); ok && bool(e) && callID != "" {
		named.ObserveWithExemplar(value, prometheus.Labels{CallHash: Hash(callID)})
		return
	}
	to.Observe(value)
}
