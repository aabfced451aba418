package main

// overview returns the dashboard of calls, phones and registrations.
func overview() board {
	return board{uid: "sipwake-overview", title: "sipwake: overview",
		help: "Calls, phones and registrations, and the state of the processes.",
		rows: []row{{"Now", []panel{
			{kind: number, title: "Calls a second", unit: "cps", help: "INVITEs that SIP nodes hold.",
				queries: []query{{`sum(rate(sipwake_wakes_total{$at,kind="call"}[5m]))`, "calls"}}},
			{kind: number, title: "Messages a second", unit: "cps", help: "MESSAGEs that SIP nodes hold.",
				queries: []query{{`sum(rate(sipwake_wakes_total{$at,kind="chat"}[5m]))`, "messages"}}},
			{kind: number, title: "Pushes a second", unit: "cps", help: "All pushes that were accepted.",
				queries: []query{{`sum(rate(sipwake_push_total{$at,reason="accepted"}[5m]))`, "pushes"}}},
			{kind: number, title: "Bindings", unit: "short", help: "Phones that can be woken, at the last count. Instances that share a store count the same ones.",
				queries: []query{{`sum(max by (provider, app) (sipwake_bindings{$at}))`, "bindings"}}},
			{kind: number, title: "Instances", help: "Instances that Prometheus can scrape.",
				queries: []query{{`sum(up{$at})`, "instances"}}},
			{kind: number, title: "Versions", help: "More than one during an upgrade.", steps: rising(2, 3),
				queries: []query{{`count(count by (version) (sipwake_build_info{$at}))`, "versions"}}},
		}}, {"Calls and messages", []panel{
			{title: "Held requests", unit: "cps", stacked: true, help: "By sipwake's answer. pushing and awake: the node waits for phones. none: there is nobody to wake. shed: overload.",
				queries: []query{{`sum by (kind, outcome) (rate(sipwake_wakes_total{$at}[$__rate_interval]))`, "{{kind}} {{outcome}}"}}},
			{title: "How they ended", unit: "cps", stacked: true, help: "By the reason that the SIP node gave.",
				queries: []query{{`sum by (reason) (rate(sipwake_wake_ends_total{$at}[$__rate_interval]))`, "{{reason}}"}}},
			{title: "What became of the phones", unit: "cps", stacked: true, help: "Phones that a held request should wake.",
				queries: []query{{`sum by (result) (rate(sipwake_wake_devices_total{$at}[$__rate_interval]))`, "{{result}}"}}},
			{title: "Time to wake", unit: "s", help: "From the call to the REGISTER of the phone that was pushed.",
				queries: quantiles(`sipwake_wake_seconds_bucket{$at}`)},
			{title: "Held and ringing", help: "held: requests within their hold time. ringing: calls after it, which may ring.",
				queries: []query{{`sum(sipwake_wakes_open{$at})`, "held"}, {`sum(sipwake_wakes_ringing{$at})`, "ringing"}}},
			{title: "Calls over a limit", unit: "cps", help: "Calls that caused no push because of wake.limits.",
				queries: []query{{`sum by (limit) (rate(sipwake_wakes_limited_total{$at}[$__rate_interval]))`, "{{limit}}"}}},
		}}, {"Registrations", []panel{
			{title: "REGISTERs", unit: "cps", stacked: true, help: "By what sipwake did with their push data.",
				queries: []query{{`sum by (status) (rate(sipwake_registers_total{$at}[$__rate_interval]))`, "{{status}}"}}},
			{title: "Bindings", unit: "short", stacked: true, help: "Phones that can be woken, by app.",
				queries: []query{{`max by (provider, app) (sipwake_bindings{$at})`, "{{provider}} {{app}}"}}},
			{title: "Bindings removed", unit: "cps", help: "By reason. Many token_dead at once: an app was removed from the app store, or its credential has changed.",
				queries: []query{{`sum by (reason) (rate(sipwake_bindings_removed_total{$at}[$__rate_interval]))`, "{{reason}}"}}},
		}}, {"JSON-RPC", []panel{
			{title: "Requests", unit: "reqps", stacked: true, help: "By method.",
				queries: []query{{`sum by (method) (rate(sipwake_rpc_requests_total{$at}[$__rate_interval])) > 0`, "{{method}}"}}},
			{title: "Errors", unit: "reqps", help: "By code: -32003 is the store, -32002 overload, -32602 invalid parameters.",
				queries: []query{{`sum by (code) (rate(sipwake_rpc_requests_total{$at,code!="0"}[$__rate_interval]))`, "{{code}}"}}},
			{title: "Time to answer, 99 %", unit: "s", help: "The SIP node waits for it with every REGISTER and every call.",
				queries: []query{{`histogram_quantile(0.99, sum by (le, method) (rate(sipwake_rpc_seconds_bucket{$at,method=~"binding.register|wake.*"}[$__rate_interval])))`, "{{method}}"}}},
			{title: "Connections", help: "Open connections, and requests in progress.",
				queries: []query{{`sum by (instance) (sipwake_rpc_connections{$at})`, "{{instance}} connections"}, {`sum by (instance) (sipwake_rpc_in_flight{$at})`, "{{instance}} requests"}}},
			{title: "Connections and requests refused", unit: "cps", help: "refused: no room. displaced: closed to make room for others. over the rate: requests over the client's limit.",
				queries: []query{
					{`sum(rate(sipwake_rpc_connections_refused_total{$at}[$__rate_interval]))`, "refused"},
					{`sum(rate(sipwake_rpc_connections_displaced_total{$at}[$__rate_interval]))`, "displaced"},
					{`sum(rate(sipwake_rpc_limited_total{$at}[$__rate_interval]))`, "over the rate"},
				}},
			{title: "Load level", most: 4, help: "0 to 4, as service.load says.",
				queries: []query{{`max by (instance) (sipwake_load_level{$at})`, "{{instance}}"}}},
		}}, {"Processes", []panel{
			{title: "CPU", unit: "short", width: 6, help: "Cores in use.",
				queries: []query{{`sum by (instance) (rate(process_cpu_seconds_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
			{title: "Memory", unit: "bytes", width: 6, help: "Resident memory. The embedded store's file is mapped and counts.",
				queries: []query{{`sum by (instance) (process_resident_memory_bytes{$at})`, "{{instance}}"}}},
			{title: "Goroutines", unit: "short", width: 6, help: "They follow the load. A steady rise is a leak: report it.",
				queries: []query{{`sum by (instance) (go_goroutines{$at})`, "{{instance}}"}}},
			{title: "File descriptors", unit: "percentunit", width: 6, most: 1, help: "Share of LimitNOFILE that is in use.",
				queries: []query{{`max by (instance) (process_open_fds{$at} / process_max_fds{$at})`, "{{instance}}"}}},
		}}}}
}

// quantiles returns the queries of the median, 95 % and 99 % of a histogram's buckets.
func quantiles(buckets string) []query {
	var list []query
	for _, q := range []struct{ q, name string }{{"0.5", "50 %"}, {"0.95", "95 %"}, {"0.99", "99 %"}} {
		list = append(list, query{`histogram_quantile(` + q.q + `, sum by (le) (rate(` + buckets + `[$__rate_interval])))`, q.name})
	}
	return list
}
