package push

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// templateKey is the key for choosing a payload.
type templateKey struct {
	kind    Kind
	service pnparam.Service
}

// Templates are the payloads of an app by Kind and Service, with the Options for
// sending them. They are immutable; With and Options.Load make new ones.
type Templates struct {
	provider pnparam.Provider
	options  Options
	limit    int // of a payload; 0 means the provider's
	byKey    map[templateKey]*template
}

// The parts that the default payloads share. All values are strings, as FCM requires.
const (
	// The keys that apps written for Mizutech's MPUSH read.
	mpushKeys = `"ntype":"{TYPE}","nfromusername":"{FROMUSERNAME}","nfrom":"{FROM}","nmsg":"{MSG}",` +
		`"ncallid":"{CALLID}","ntousr":"{TOUSER}"`
	dataKeys = mpushKeys + `,"nfromuri":"{FROMURI}","handle":"{FROMUSERNAME}","callUUID":"{UUID}",` +
		`"display":"{FROMDISPLAYNAME}","media":"{MEDIA}","{DATA}":null`
	// An iPhone app gets one object. Apps written for MPUSH look into its "data".
	apnsKeys = dataKeys + `,"data":{` + mpushKeys + `}`

	alert = `{"title":"{TITLE}","body":"{BODY}"}`

	apnsVoIP   = `{"aps":{},` + apnsKeys + `}`
	apnsCall   = `{"aps":{"alert":` + alert + `,"sound":"{SOUND}"},` + apnsKeys + `}`
	apnsText   = `{"aps":{"alert":` + alert + `,"sound":"{SOUND}","mutable-content":1},` + apnsKeys + `}`
	apnsSilent = `{"aps":{"content-available":1},` + apnsKeys + `}`

	// The "apns" part is for an iPhone whose app uses FCM; Android never sees it.
	// The provider adds its headers. If there is a notification, FCM makes the alert
	// from it.
	fcmIOSAlert  = `"apns":{"payload":{"aps":{"alert":` + alert + `,"sound":"{SOUND}"}}}`
	fcmIOSSound  = `"apns":{"payload":{"aps":{"sound":"{SOUND}","mutable-content":1}}}`
	fcmIOSSilent = `"apns":{"payload":{"aps":{"content-available":1}}}`

	fcmSilent  = `"android":{"priority":"{PRIORITY}"}`
	fcmVisible = `"android":{"priority":"{PRIORITY}","notification":{"sound":"{SOUND}"}}`

	fcmCall  = `{"data":{` + dataKeys + `},` + fcmSilent + `,` + fcmIOSAlert + `}`
	fcmText  = `{"data":{` + dataKeys + `},"notification":` + alert + `,` + fcmVisible + `,` + fcmIOSSound + `}`
	fcmOther = `{"data":{` + dataKeys + `},` + fcmSilent + `,` + fcmIOSSilent + `}`

	// For the operator's own service, which gets everything.
	plain = `{"kind":"{KIND}","app":"{PACKAGE}","token":"{TOKEN}","to":"{TO}","from":"{FROMURI}",` +
		`"user":"{FROMUSERNAME}","display":"{FROMDISPLAYNAME}","call_id":"{CALLID}","uuid":"{UUID}",` +
		`"media":"{MEDIA}","title":"{TITLE}","body":"{BODY}","data":{"{DATA}":null}}`
)

// defaultTexts returns the default payloads. A Service without its own payload gets
// that of the empty Service.
func defaultTexts(p pnparam.Provider) map[templateKey]string {
	switch p {
	case pnparam.APNs:
		return map[templateKey]string{
			{Call, pnparam.VoIP}: apnsVoIP,
			{Call, ""}:           apnsCall,
			{Chat, ""}:           apnsText,
			{Custom, ""}:         apnsText,
			// Apple wants no second alert for a call that is over. The app may
			// remove the first one.
			{Cancel, ""}:  apnsSilent,
			{Refresh, ""}: apnsSilent,
		}
	case pnparam.FCM:
		return map[templateKey]string{
			{Call, ""}: fcmCall, {Chat, ""}: fcmText, {Custom, ""}: fcmText,
			{Cancel, ""}: fcmOther, {Refresh, ""}: fcmOther,
		}
	}
	text := plain
	if p == pnparam.WebPush {
		text = "{" + dataKeys + "}"
	}
	texts := make(map[templateKey]string)
	for _, k := range Kinds() {
		texts[templateKey{k, ""}] = text
	}
	return texts
}

// DefaultTemplates returns the payloads that need no configuration. Those of WebPush
// are sent only to subscriptions with keys. For an unknown provider the payload is
// one JSON object with everything in it.
func DefaultTemplates(p pnparam.Provider) *Templates {
	t, err := new(Options).Load(p, TemplateRules{})
	if err != nil {
		panic("BUG: templates without files have a problem: " + err.Error())
	}
	return t
}

// With returns a copy in which text is the payload for the kind and service. The
// empty service stands for all services without their own payload. The text is a JSON
// object. Keywords in its string values are filled in: {PACKAGE}, {TOKEN}, {TO},
// {TOUSER} or {TOUSERNAME}, {TYPE}, {KIND}, {FROM} or {FROMUSERNAME}, {FROMURI},
// {FROMDISPLAYNAME}, {CALLID}, {UUID}, {MEDIA}, {TITLE}, {BODY}, {MSG} or {MESSAGE},
// {CALLED}, {CALLEDURI}, {VERSTAT}, {REASON} and {HEADER:Name}. These say how the
// push is sent: {SENT}, {EXPIRES}, {PRIORITY}, {APRIORITY}, {NPRIORITY}, {PUSHTYPE},
// {TTLNUM}, {SOUND}. The pair "{DATA}": null is replaced by Values.Data. The error
// names the place in the text.
func (t *Templates) With(kind Kind, service pnparam.Service, text []byte) (*Templates, error) {
	if !slices.Contains(Kinds(), kind) {
		return nil, fmt.Errorf("cannot use template for kind %q: there is no such kind", kind)
	}
	parsed, err := parseTemplate(text)
	if err != nil {
		return nil, fmt.Errorf("cannot parse template for kind %q: %w", kind, err)
	}
	next := &Templates{t.provider, t.options, t.limit, maps.Clone(t.byKey)}
	next.byKey[templateKey{kind, service}] = parsed
	return next, nil
}

// Payload appends the payload of r to dst. It is valid JSON and UTF-8 with the keys
// and structure of the template, whatever the values contain, and at most limit bytes
// long: to fit, the texts (title, body, caller's name) are cut between two
// characters. On error it returns dst unchanged.
func (t *Templates) Payload(dst []byte, r *Request, limit int) ([]byte, error) {
	if r.Provider == pnparam.WebPush && r.Keys == nil { // RFC 8599: no payload
		return dst, nil
	}
	now := time.Now()
	found := t.find(r)
	if found == nil {
		return dst, fmt.Errorf("cannot fill template: none for kind %q", r.Kind)
	}
	dst, err := found.fill(dst, &filling{r, t.options.delivery(t.provider, r, &found.own, now), now}, limit)
	if err != nil {
		return dst, fmt.Errorf("cannot fill template for kind %q: %w", r.Kind, err)
	}
	return dst, nil
}

// find returns the template for r, or nil.
func (t *Templates) find(r *Request) *template {
	if found := t.byKey[templateKey{r.Kind, r.Service}]; found != nil {
		return found
	}
	return t.byKey[templateKey{r.Kind, ""}]
}

// Delivery returns how to send r if it is sent now.
func (t *Templates) Delivery(r *Request) Delivery {
	own := new(Own)
	if found := t.find(r); found != nil {
		own = &found.own
	}
	return t.options.delivery(t.provider, r, own, time.Now())
}

// most returns the maximum size of a payload for the service, in bytes.
func (t *Templates) most(s pnparam.Service) int {
	if t.limit > 0 {
		return t.limit
	}
	return payloadLimit(t.provider, s)
}

// payloadLimit returns the services' maximum payload size in bytes. Apple has one
// limit for VoIP and a lower one for other pushes. FCM's limit is the lower one too,
// and so is Web Push's, less the overhead of encryption.
func payloadLimit(p pnparam.Provider, s pnparam.Service) int {
	switch {
	case p == pnparam.WebPush:
		return 3993
	case s == pnparam.VoIP:
		return 5120
	}
	return 4096
}
