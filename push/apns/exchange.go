package apns

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sideshow/apns2"

	"github.com/sipwake/sipwake/push/h2"
)

// outline is a push in the form that Apple gets. It leaves the Payload and the
// Expiration of Notification empty: apns2 would escape the JSON of the payload and
// omit the expiration.
type outline struct {
	apns2.Notification
	payload    []byte
	expiration string
}

// neverStore is the expiration of a push that is delivered now or never.
const neverStore = "0"

// exchange is one request to Apple and its answer. Exchanges are reused.
type exchange struct {
	req    h2.Request
	resp   h2.Response
	bearer providerToken
	answer answer
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// free prepares the exchange for another push. Nothing may refer to it any more.
func (x *exchange) free() {
	x.reset()
	clear(x.req.Header)
	x.req = h2.Request{Header: x.req.Header[:0]}
	x.bearer = providerToken{}
	exchanges.Put(x)
}

// reset clears the answer.
func (x *exchange) reset() {
	clear(x.resp.Header)
	x.resp = h2.Response{Header: x.resp.Header[:0], Body: x.resp.Body[:0]}
	x.answer = answer{}
}

// prepare builds the request. Apple's HPACK dynamic table is small, so values that
// differ from push to push stay out of it.
func (x *exchange) prepare(host string, out *outline) {
	h := x.req.Header[:0]
	h = append(h,
		h2.Field{Name: ":method", Value: http.MethodPost},
		h2.Field{Name: ":scheme", Value: "https"},
		h2.Field{Name: ":authority", Value: host},
		h2.Field{Name: ":path", Value: "/3/device/" + out.DeviceToken, Sensitive: true},
		h2.Field{Name: "apns-topic", Value: out.Topic},
		h2.Field{Name: "apns-push-type", Value: string(out.PushType)},
		h2.Field{Name: "apns-expiration", Value: out.expiration, Sensitive: out.expiration != neverStore},
	)
	if out.Priority > 0 {
		h = append(h, h2.Field{Name: "apns-priority", Value: strconv.Itoa(out.Priority)})
	}
	if out.CollapseID != "" {
		h = append(h, h2.Field{Name: "apns-collapse-id", Value: out.CollapseID, Sensitive: true})
	}
	x.req.Header, x.req.Body = h, out.payload
}

// header returns a field of the answer by its lower-case name.
func (x *exchange) header(name string) string {
	for _, f := range x.resp.Header {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// unusable reports whether the answer is about the connection that it came over.
func (x *exchange) unusable() bool {
	return x.answer.Reason == unrelatedKeyID || x.answer.Reason == idleTimeout
}

// answer is the body of a refusal.
type answer struct {
	Reason    string `json:"reason"`
	Timestamp int64  `json:"timestamp"` // milliseconds
}

// parse reads the body. A truncated body does not change the status.
func (x *exchange) parse() {
	if x.resp.Status != http.StatusOK && json.Unmarshal(x.resp.Body, &x.answer) != nil {
		x.answer = answer{}
	}
}

func (a answer) deadSince() time.Time {
	if a.Timestamp <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(a.Timestamp)
}
