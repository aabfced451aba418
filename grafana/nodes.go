package main

// nodes returns the dashboard of SIP nodes, the store and the work that instances take over.
func nodes() board {
	return board{uid: "sipwake-nodes", title: "sipwake: SIP nodes and store",
		help: "What sipwake depends on: the SIP nodes that it signals, and the store.",
		rows: []row{{"SIP nodes", []panel{
			{kind: states, title: "Nodes", names: map[string]string{"0": "down", "1": "up"}, steps: []step{{0, red}, {1, green}},
				help:    "Down: the node does not answer, or refuses sipwake's secret. sipwake tries every 30 s.",
				queries: []query{{`min by (node) (sipwake_node_up{$at})`, "{{node}}"}}},
			{title: "Time until a node took a signal", unit: "s", width: 12, help: "Including retries. Usually below 10 ms.",
				queries: quantiles(`sipwake_node_signal_seconds_bucket{$at}`)},
			{title: "Signals", unit: "cps", stacked: true, width: 12, help: "By answer: added and dup are good, nocontact is retried, error means no answer.",
				queries: []query{{`sum by (node, result) (rate(sipwake_node_signals_total{$at}[$__rate_interval])) > 0`, "{{node}} {{result}}"}}},
			{title: "Signals without an answer", unit: "percentunit", width: 12, help: "Share of the signals to the node.",
				queries: []query{{`sum by (node) (rate(sipwake_node_signals_total{$at,result="error"}[$__rate_interval])) / sum by (node) (rate(sipwake_node_signals_total{$at}[$__rate_interval]))`, "{{node}}"}}},
		}}, {"Store", []panel{
			{kind: states, title: "Store", names: map[string]string{"0": "works", "1": "fails"}, steps: none, width: 8,
				help:    "Redis is away, or the last write to the file failed.",
				queries: []query{{`max by (instance) (sipwake_store_away{$at} or sipwake_store_failing{$at})`, "{{instance}}"}}},
			{title: "Errors", unit: "cps", help: "Reads and writes that failed.",
				queries: []query{{`sum by (instance) (rate(sipwake_store_errors_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
			{title: "Queue", unit: "percentunit", help: "How full the queue for Redis or the disk is.",
				queries: []query{{`max by (instance) (sipwake_store_queue{$at} / sipwake_store_queue_capacity{$at})`, "{{instance}}"}}},
			{title: "Outbox", unit: "percentunit", help: "How full the outbox is with messages of applications, including finished ones.",
				queries: []query{{`max by (instance) (sipwake_store_outbox{$at} / sipwake_store_outbox_capacity{$at})`, "{{instance}}"}}},
			{title: "Messages refused", unit: "cps", help: "The outbox was full.",
				queries: []query{{`sum by (instance) (rate(sipwake_store_outbox_rejected_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
			{title: "Timelines", unit: "cps", help: "Timelines of calls that were written, and those that were lost because the store was too slow.",
				queries: []query{{`sum(rate(sipwake_traces_written_total{$at}[$__rate_interval]))`, "written"}, {`sum(rate(sipwake_traces_dropped_total{$at}[$__rate_interval]))`, "lost"}}},
		}}, {"Embedded store", []panel{
			{title: "Time of a write", unit: "s", width: 12, help: "A REGISTER of a new phone waits for this write to the disk.",
				rare: "an instance has the embedded store", queries: quantiles(`sipwake_store_commit_seconds_bucket{$at}`)},
			{title: "Bindings that ran out", unit: "cps", width: 12, help: "Their retention is over.",
				rare: "an instance has the embedded store", queries: []query{{`sum by (instance) (rate(sipwake_store_swept_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
		}}, {"Redis", []panel{
			{title: "Spool", unit: "percentunit", help: "How full the spool is with REGISTERs that wait for Redis.", rare: "an instance has Redis",
				queries: []query{{`max by (instance) (sipwake_store_spool{$at} / sipwake_store_spool_capacity{$at})`, "{{instance}}"}}},
			{title: "REGISTERs of the spool", unit: "cps", help: "Spooled while Redis was away, replayed to Redis later, and lost.", rare: "an instance has Redis",
				queries: []query{
					{`sum(rate(sipwake_store_spooled_total{$at}[$__rate_interval]))`, "spooled"},
					{`sum(rate(sipwake_store_spool_replayed_total{$at}[$__rate_interval]))`, "stored later"},
					{`sum by (reason) (rate(sipwake_store_spool_dropped_total{$at}[$__rate_interval]))`, "lost: {{reason}}"},
				}},
			{title: "Calls while Redis is away", unit: "cps", help: "hits: phones woken from memory. misses: nobody was woken.", rare: "an instance has Redis",
				queries: []query{
					{`sum(rate(sipwake_store_cache_hits_total{$at}[$__rate_interval]))`, "hits"},
					{`sum(rate(sipwake_store_cache_misses_total{$at}[$__rate_interval]))`, "misses"},
				}},
			{title: "Users in memory", unit: "percentunit", help: "How full the cache for outages of Redis is.", rare: "an instance has Redis",
				queries: []query{{`max by (instance) (sipwake_store_cache{$at} / sipwake_store_cache_capacity{$at})`, "{{instance}}"}}},
			{title: "Instances", help: "Instances that share the store, as each of them counts them. All must agree.", rare: "an instance has Redis",
				queries: []query{{`max by (instance) (sipwake_instances{$at})`, "{{instance}}"}}},
			{title: "Calls taken over", unit: "cps", help: "Calls of instances that ended. Some during an upgrade are normal.",
				queries: []query{{`sum by (instance) (rate(sipwake_wakes_adopted_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
		}}}}
}
