// Package metric has what the histograms of all parts share: native buckets beside
// the classic ones, and exemplars.
package metric

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Other is the label of what no app or push service is configured for, so that no
// stranger's word becomes a label.
const Other = "other"

const (
	nativeFactor  = 1.1 // a bucket is at most so much wider than the one before
	nativeBuckets = 100 // at most; then they get wider
	nativeReset   = time.Hour
)

// Histogram returns the options of a histogram with these classic buckets. A
// Prometheus that scrapes native histograms gets those too, in at most 100 buckets.
func Histogram(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: nativeFactor,
		NativeHistogramMaxBucketNumber: nativeBuckets, NativeHistogramMinResetDuration: nativeReset}
}

// Exemplars says whether observations name the call that they are of.
type Exemplars bool

// CallHash is the label of an exemplar; its value is a Hash.
const CallHash = "call_hash"

// Hash returns the first 16 hexadecimal digits of the SHA-256 of a Call-ID. Who has
// the Call-ID finds its exemplars; the Call-ID does not get into the metrics.
func Hash(callID string) string {
	sum := sha256.Sum256([]byte(callID))
	return hex.EncodeToString(sum[:8])
}

// Observe adds an observation, with an exemplar if there are any and the Call-ID
// is not empty.
func (e Exemplars) Observe(to prometheus.Observer, value float64, callID string) {
	if named, ok := to.(prometheus.ExemplarObserver); ok && bool(e) && callID != "" {
		named.ObserveWithExemplar(value, prometheus.Labels{CallHash: Hash(callID)})
		return
	}
	to.Observe(value)
}
