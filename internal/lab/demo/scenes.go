package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

const (
	demoBundle  = "org.example.phone"
	demoTeam    = "TEAM123456"
	demoProject = "example-phone"
	apnsParams  = ";pn-provider=apns;pn-param=" + demoTeam + "." + demoBundle + ".voip;pn-prid=TOKEN"
	fcmParams   = ";pn-provider=fcm;pn-param=" + demoProject + ";pn-prid=TOKEN"
)

// demoPassword is what a user shows to a PBX.
func demoPassword(user string) string { return "password-of-" + user }

func demoToken(n int) string { return fmt.Sprintf("%x", sha256.Sum256([]byte{byte(n)})) }

// scenes returns the calls of the demo.
func scenes() []scene {
	return append(courses(), dialects()...)
}

// courses returns calls with different outcomes.
func courses() []scene {
	answers := phone.Config{Behaviour: phone.Answer(150 * time.Millisecond), WakeDelay: 120 * time.Millisecond}
	return []scene{{
		title: "an iPhone sleeps (APNs)", expected: "pushed, woken, answered", user: "ivan",
		params: apnsParams, token: demoToken(1), phone: answers, code: 200, pushes: 1, invites: 1,
	}, {
		title: "an Android phone sleeps (FCM)", expected: "pushed, woken, answered", user: "anna",
		params: fcmParams, token: "fcm-registration-token-of-anna", phone: answers, code: 200, pushes: 1, invites: 1,
	}, {
		title: "a phone that is awake", expected: "rung without a push", user: "walter",
		params: apnsParams, token: demoToken(2), awake: true, phone: answers, code: 200, pushes: 0, invites: 1,
	}, {
		title: "the caller hangs up before the phone is awake", expected: "487, the phone never rings", user: "cleo",
		params: apnsParams, token: demoToken(3),
		phone: phone.Config{WakeOn: func([]byte) bool { return false }},
		act:   hangsUp,
		code:  487, pushes: 1, invites: 0,
	}, {
		title: "a phone comes back when its call is over", expected: "487, the phone is told by INVITE and CANCEL", user: "lara",
		params: apnsParams, token: demoToken(5), phone: phone.Config{WakeDelay: 400 * time.Millisecond},
		act: hangsUp, late: true, code: 487, pushes: 1, invites: 1,
	}, {
		title: "the app was deleted: its token is dead", expected: "480 at once, the binding is gone", user: "dora",
		params: apnsParams, token: demoToken(4),
		prepare: func(s *stage, sc *scene) {
			s.services.APNs.Behave(sc.token, apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour)})
		},
		code: 480, pushes: 1, invites: 0, unbound: true,
	}}
}

func hangsUp(ctx context.Context, c *phone.Call) error {
	_, err := c.Cancel(ctx)
	return err
}

// dialects returns calls to sleeping phones, one for each dialect of push parameters in the
// field.
func dialects() []scene {
	remote := demoToken(100)
	list := []scene{
		{title: "Linphone on iOS: a voip and a remote token", user: "lena",
			params: ";pn-provider=apns;pn-prid=" + remote + ":remote&TOKEN:voip;pn-param=" + demoTeam + "." + demoBundle +
				".remote&voip;pn-msg-str=IM_MSG;pn-call-str=IC_MSG;pn-groupchat-str=GC_MSG;pn-call-snd=ring.caf"},
		{title: "an old Linphone: app-id, pn-type, pn-tok", user: "otto",
			params: ";app-id=" + demoBundle + ".voip.prod;pn-type=apple;pn-tok=TOKEN;pn-timeout=0;pn-silent=1"},
		{title: "Mizutech: X-MPUSH", user: "mira", header: "X-MPUSH: i:" + demoBundle + ":TOKEN"},
		{title: "an old Mizutech: push-token-type, -app, -id", user: "pavel",
			params: ";push-token-type=i;push-token-app=" + demoBundle + ";push-token-id=TOKEN"},
		{title: "PortSIP: X-Push", user: "petra",
			header: "X-Push: device-os=ios;device-uid=TOKEN;allow-call-push=true;allow-message-push=true;app-id=" + demoBundle},
		{title: "Sylk: pn-type, pn-app, pn-tok", user: "sven",
			params: ";pn-type=ios;pn-app=" + demoBundle + ";pn-tok=TOKEN-" + remote + ";pn-device=accc8375125582aa;pn-silent=1"},
	}
	for i := range list {
		sc := &list[i]
		sc.expected, sc.token = "pushed, woken, answered", demoToken(10+i)
		sc.phone = phone.Config{Behaviour: phone.Answer(50 * time.Millisecond), WakeDelay: 20 * time.Millisecond}
		sc.code, sc.pushes, sc.invites = 200, 1, 1
	}
	return list
}

// demoTokenOf returns an APNs token for the user.
func demoTokenOf(user string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(user))) }
