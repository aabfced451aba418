package push

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sipwake/sipwake/pnparam"
)

// templateKey is what a payload is chosen by.
type templateKey struct {
	kind    Kind
	service pnparam.Service
}

// Templates are the payloads of an app, by Kind and Service. They never change;
// With makes new ones.
type Templates struct {
	byKey map[templateKey]*template
}

// The parts that the default payloads share. All values are strings, as FCM
// wants them.
const (
	dataKeys = `"ntype":"{TYPE}","nfromusername":"{FROMUSERNAME}","nfrom":"{FROM}","nmsg":"{MSG}",` +
		`"ncallid":"{CALLID}","ntousr":"{TOUSER}","handle":"{FROMUSERNAME}","callUUID":"{UUID}",` +
		`"display":"{FROMDISPLAYNAME}","media":"{MEDIA}","{DATA}":null`

	callAlert   = `{"title":"Incoming call","body":"{FROMDISPLAYNAME}"}`
	chatAlert   = `{"title":"{FROMDISPLAYNAME}","body":"{BODY}"}`
	customAlert = `{"title":"{TITLE}","body":"{BODY}"}`

	apnsVoIP   = `{"aps":{},` + dataKeys + `}`
	apnsCall   = `{"aps":{"alert":` + callAlert + `,"sound":"default"},` + dataKeys + `}`
	apnsChat   = `{"aps":{"alert":` + chatAlert + `,"sound":"default","mutable-content":1},` + dataKeys + `}`
	apnsCustom = `{"aps":{"alert":` + customAlert + `,"sound":"default","mutable-content":1},` + dataKeys + `}`
	apnsSilent = `{"aps":{"content-available":1},` + dataKeys + `}`

	// The "apns" part is for an iPhone whose app uses FCM; Android never sees it.
	fcmIOSAlert  = `"apns":{"headers":{"apns-priority":"10"},"payload":{"aps":{"alert":` + callAlert + `,"sound":"default"}}}`
	fcmIOSSilent = `"apns":{"headers":{"apns-priority":"5"},"payload":{"aps":{"content-available":1}}}`

	fcmCall   = `{"data":{` + dataKeys + `},"android":{"priority":"high"},` + fcmIOSAlert + `}`
	fcmChat   = `{"data":{` + dataKeys + `},"notification":` + chatAlert + `,"android":{"priority":"high"}}`
	fcmCustom = `{"data":{` + dataKeys + `},"notification":` + customAlert + `,"android":{"priority":"high"}}`
	fcmCancel = `{"data":{` + dataKeys + `},"android":{"priority":"high"},` + fcmIOSSilent + `}`
	// A device takes high priority away from an app whose pushes show nothing,
	// and then its calls come late. A late refresh costs little: the binding
	// outlives the registration.
	fcmRefresh = `{"data":{` + dataKeys + `},"android":{"priority":"normal"},` + fcmIOSSilent + `}`

	// For a service of the operator's own, which gets all there is.
	plain = `{"kind":"{KIND}","app":"{PACKAGE}","token":"{TOKEN}","to":"{TO}","from":"{FROM}",` +
		`"user":"{FROMUSERNAME}","display":"{FROMDISPLAYNAME}","call_id":"{CALLID}","uuid":"{UUID}",` +
		`"media":"{MEDIA}","title":"{TITLE}","body":"{BODY}","data":{"{DATA}":null}}`
)

// defaultTexts are the default payloads. A Service without one of its own gets
// that of the empty Service.
func defaultTexts(p pnparam.Provider) map[templateKey]string {
	switch p {
	case pnparam.APNs:
		return map[templateKey]string{
			{Call, pnparam.VoIP}: apnsVoIP,
			{Call, ""}:           apnsCall,
			{Chat, ""}:           apnsChat,
			{Custom, ""}:         apnsCustom,
			// Apple wants no second alert for a call that is over; the app may
			// take the first one away.
			{Cancel, ""}:  apnsSilent,
			{Refresh, ""}: apnsSilent,
		}
	case pnparam.FCM:
		return map[templateKey]string{
			{Call, ""}: fcmCall, {Chat, ""}: fcmChat, {Custom, ""}: fcmCustom,
			{Cancel, ""}: fcmCancel, {Refresh, ""}: fcmRefresh,
		}
	case pnparam.WebPush: // without a payload, as RFC 8599 has it
		return nil
	}
	texts := make(map[templateKey]string)
	for _, k := range Kinds() {
		texts[templateKey{k, ""}] = plain
	}
	return texts
}

// DefaultTemplates returns the payloads that need no configuration. For WebPush
// they are empty, for a provider that is not known one JSON object with
// everything in it.
func DefaultTemplates(p pnparam.Provider) *Templates {
	t := &Templates{byKey: make(map[templateKey]*template)}
	for k, text := range defaultTexts(p) {
		parsed, err := parseTemplate([]byte(text))
		if err != nil {
			panic(fmt.Sprintf("BUG: default template of %s for %s: %v", p, k.kind, err))
		}
		t.byKey[k] = parsed
	}
	if p == pnparam.WebPush {
		for _, k := range Kinds() {
			t.byKey[templateKey{k, ""}] = &template{}
		}
	}
	return t
}

// With returns a copy in which text is the payload for the kind and service;
// the empty service stands for all that have no payload of their own. The text
// is a JSON object. Keywords in its string values are filled in: {PACKAGE},
// {TOKEN}, {TO}, {TOUSER}, {TYPE}, {KIND}, {FROM}, {FROMUSERNAME},
// {FROMDISPLAYNAME}, {CALLID}, {UUID}, {MEDIA}, {TITLE}, and {BODY}, {MSG} or
// {MESSAGE}; the pair "{DATA}": null makes room for Values.Data. The error
// names the place in the text.
func (t *Templates) With(kind Kind, service pnparam.Service, text []byte) (*Templates, error) {
	if !slices.Contains(Kinds(), kind) {
		return nil, fmt.Errorf("cannot use template for kind %q: there is no such kind", kind)
	}
	parsed, err := parseTemplate(text)
	if err != nil {
		return nil, fmt.Errorf("cannot parse template for kind %q: %w", kind, err)
	}
	byKey := maps.Clone(t.byKey)
	byKey[templateKey{kind, service}] = parsed
	return &Templates{byKey}, nil
}

// Payload appends the payload of r to dst. It is valid JSON and UTF-8 with the
// keys and structure of the template, whatever the values hold, and at most
// limit bytes long: to fit, the texts (title, body, caller's name) are cut
// between two characters. On an error dst is returned as it was.
func (t *Templates) Payload(dst []byte, r *Request, limit int) ([]byte, error) {
	found := t.byKey[templateKey{r.Kind, r.Service}]
	if found == nil {
		found = t.byKey[templateKey{r.Kind, ""}]
	}
	if found == nil {
		return dst, fmt.Errorf("cannot fill template: none for kind %q", r.Kind)
	}
	dst, err := found.fill(dst, r, limit)
	if err != nil {
		return dst, fmt.Errorf("cannot fill template for kind %q: %w", r.Kind, err)
	}
	return dst, nil
}

// payloadLimit is the most bytes that the services take: Apple's limits for
// voip and other pushes, the lower of which is also FCM's.
func payloadLimit(s pnparam.Service) int {
	if s == pnparam.VoIP {
		return 5120
	}
	return 4096
}
