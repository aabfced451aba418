package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	fcmdata "google.golang.org/api/fcmdata/v1beta1"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/oauth"
)

const (
	// dataScope is the scope of the FCM Data API, which has no narrower one.
	dataScope = "https://www.googleapis.com/auth/cloud-platform"
	dataHost  = "https://fcmdata.googleapis.com"
	// labelPrefix begins the analytics labels that let Google distinguish kinds of
	// push.
	labelPrefix = "sipwake_"
	maxPages    = 10
	maxData     = 4 << 20
)

// data asks the FCM Data API how pushes fared: percentages by day and analytics
// label, for the phones whose users share such data with Google.
type data struct {
	source  *source
	address string // of the API
	project string
	apps    []string // Firebase's IDs of the Android apps
}

var _ push.Judge = (*Provider)(nil)

// Judges implements push.Judge.
func (p *Provider) Judges() bool { return p.data != nil }

// Verdicts implements push.Judge.
func (p *Provider) Verdicts(ctx context.Context) ([]push.Verdict, error) {
	sums := make(map[push.Verdict]*sum) // by day and kind
	for _, app := range p.data.apps {
		if err := p.data.ask(ctx, app, sums); err != nil {
			return nil, err
		}
	}
	var list []push.Verdict
	for v, s := range sums {
		if s.pushes > 0 {
			v.PriorityLowered, v.Dozed = s.lowered/s.pushes/100, s.dozed/s.pushes/100
			list = append(list, v)
		}
	}
	return list, nil
}

// sum adds up percentages of several apps, each weighted by its pushes.
type sum struct{ pushes, lowered, dozed float64 }

// ask adds up the data of one app.
func (d *data) ask(ctx context.Context, app string, sums map[push.Verdict]*sum) error {
	page := ""
	for range maxPages {
		answer, err := d.page(ctx, app, page)
		if err != nil {
			return err
		}
		for _, entry := range answer.AndroidDeliveryData {
			kind, ok := strings.CutPrefix(entry.AnalyticsLabel, labelPrefix)
			if !ok || !slices.Contains(push.Kinds(), push.Kind(kind)) || entry.Data == nil || entry.Date == nil {
				continue
			}
			v := push.Verdict{Day: fmt.Sprintf("%04d-%02d-%02d", entry.Date.Year, entry.Date.Month, entry.Date.Day), Kind: push.Kind(kind)}
			s := sums[v]
			if s == nil {
				s = new(sum)
				sums[v] = s
			}
			n := float64(entry.Data.CountMessagesAccepted)
			s.pushes += n
			if i := entry.Data.MessageInsightPercents; i != nil {
				s.lowered += n * i.PriorityLowered
			}
			if p := entry.Data.DeliveryPerformancePercents; p != nil {
				s.dozed += n * p.DelayedDeviceDoze
			}
		}
		if page = answer.NextPageToken; page == "" {
			return nil
		}
	}
	return nil
}

func (d *data) page(ctx context.Context, app, page string) (*fcmdata.GoogleFirebaseFcmDataV1beta1ListAndroidDeliveryDataResponse, error) {
	access, err := d.source.Bearer(ctx)
	if err != nil {
		return nil, errors.New(oauth.Reply(ctx, err).Detail)
	}
	address := fmt.Sprintf("%s/v1beta1/projects/%s/androidApps/%s/deliveryData?pageToken=%s", d.address, d.project, url.PathEscape(app), url.QueryEscape(page))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+access.Text)
	resp, err := d.source.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the FCM Data API: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxData))
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer of the FCM Data API: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the FCM Data API answered HTTP %d %s: is it enabled in the project, and may the account read it?",
			resp.StatusCode, errorName(body))
	}
	answer := new(fcmdata.GoogleFirebaseFcmDataV1beta1ListAndroidDeliveryDataResponse)
	if json.Unmarshal(body, answer) != nil {
		return nil, errors.New("the FCM Data API did not answer in JSON")
	}
	return answer, nil
}

// appID reports whether s is a Firebase ID of an Android app, such as
// 1:1234567890:android:321abc456def7890.
func appID(s string) bool {
	parts := strings.Split(s, ":")
	return len(parts) == 4 && parts[2] == "android" && name(s)
}
