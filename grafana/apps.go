package main

// apps returns the dashboard of push services and apps.
func apps() board {
	const key = "{{provider}} {{app}}"
	return board{uid: "sipwake-apps", title: "sipwake: providers and apps", byApp: true,
		help: "Push services, and the apps that are pushed through them.",
		rows: []row{{"Waking", []panel{
			{title: "Phones woken", unit: "percentunit", most: 1, width: 12,
				help:    "Share of the phones that registered in time, of those that a held request should wake.",
				queries: []query{{`sum by (provider, app) (rate(sipwake_wake_devices_total{$at,$app,result="woken"}[$__rate_interval])) / sum by (provider, app) (rate(sipwake_wake_devices_total{$at,$app,result=~"woken|silent|failed"}[$__rate_interval]))`, key}}},
			{title: "Time to wake, 95 %", unit: "s", width: 12, help: "From the call to the phone's REGISTER.",
				queries: []query{{`histogram_quantile(0.95, sum by (le, provider, app) (rate(sipwake_wake_seconds_bucket{$at,$app}[$__rate_interval])))`, key}}},
			{title: "What became of the phones", unit: "cps", stacked: true, width: 12,
				help:    "silent: the service accepted the push, but the phone did not register. failed: the service did not accept it.",
				queries: []query{{`sum by (provider, app, result) (rate(sipwake_wake_devices_total{$at,$app}[$__rate_interval]))`, key + " {{result}}"}}},
			{title: "Bindings", unit: "short", stacked: true, width: 12, help: "Phones that can be woken, at the last count.",
				queries: []query{{`max by (provider, app) (sipwake_bindings{$at,$app})`, key}}},
		}}, {"Pushes", []panel{
			{title: "Accepted", unit: "percentunit", most: 1, help: "Share of the pushes that the service accepted. dropped pushes (the call ended first) do not count.",
				queries: []query{{`sum by (provider, app) (rate(sipwake_push_total{$at,$app,reason="accepted"}[$__rate_interval])) / sum by (provider, app) (rate(sipwake_push_total{$at,$app,reason!="dropped"}[$__rate_interval]))`, key}}},
			{title: "Pushes", unit: "cps", stacked: true, help: "By kind.",
				queries: []query{{`sum by (kind) (rate(sipwake_push_total{$at,$app}[$__rate_interval]))`, "{{kind}}"}}},
			{title: "Not accepted", unit: "cps", stacked: true, help: "By reason. TROUBLESHOOTING explains each.",
				queries: []query{{`sum by (provider, app, reason) (rate(sipwake_push_total{$at,$app,reason!="accepted"}[$__rate_interval])) > 0`, key + " {{reason}}"}}},
			{title: "Time of a try", unit: "s", help: "Until the service answered.",
				queries: quantiles(`sipwake_push_seconds_bucket{$at,$app}`)},
			{title: "Time of a try, 95 %", unit: "s", help: "By app.",
				queries: []query{{`histogram_quantile(0.95, sum by (le, provider, app) (rate(sipwake_push_seconds_bucket{$at,$app}[$__rate_interval])))`, key}}},
			{title: "Retries", unit: "cps", help: "Pushes that were tried again.",
				queries: []query{{`sum by (provider, app) (rate(sipwake_push_retries_total{$at,$app}[$__rate_interval]))`, key}}},
		}}, {"Breakers and credentials", []panel{
			{kind: states, title: "Breakers", names: map[string]string{"0": "closed", "1": "half-open", "2": "open"},
				steps: []step{{0, green}, {1, yellow}, {2, red}}, help: "An open breaker refuses the app's pushes at once. Web Push has none.",
				queries: []query{{`max by (provider, app, environment) (sipwake_push_breaker_state{$at,$app})`, key + " {{environment}}"}}},
			{kind: list, title: "Days until the credential ends", steps: falling(3, 14), help: "Certificates and keys that expire.",
				rare:    "an app has a credential that expires, such as a certificate",
				queries: []query{{`min by (provider, app, environment) ((sipwake_credential_expiry_timestamp_seconds{$at,$app} - time()) / 86400)`, ""}}},
		}}, {"Queues", []panel{
			{title: "Queue", unit: "percentunit", help: "How full the fullest queue (lane) is.",
				queries: []query{{`max by (provider, app) (sipwake_push_queue_length{$at,$app} / sipwake_push_queue_capacity{$at,$app})`, key}}},
			{title: "In flight", unit: "percentunit", help: "Share of in_flight that is in use. At 100 % pushes wait.",
				queries: []query{{`max by (provider, app) (sipwake_push_in_flight{$at,$app} / sipwake_push_in_flight_capacity{$at,$app})`, key}}},
			{title: "Refused", unit: "cps", help: "Pushes whose queue was full.",
				queries: []query{{`sum by (provider, app, lane) (rate(sipwake_push_queue_rejected_total{$at,$app}[$__rate_interval]))`, key + " {{lane}}"}}},
		}}}}
}
