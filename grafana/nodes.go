package main

// nodes is about SIP nodes, the store and what instances do for each other.
func nodes() board {
	return board{uid: "sipwake-nodes", title: "sipwake: SIP nodes and store",
		help: "What sipwake stands on: the SIP nodes that it signals, and the store.",
		rows: []row{{"SIP nodes", []panel{
			{kind: states, title: "Nodes", names: map[string]string{"0": "down", "1": "up"}, steps: []step{{0, red}, {1, green}},
				help:    "Down: the node does not answer, or refuses our secret. sipwake tries every 30 s.",
				queries: []query{{`min by (node) (sipwake_node_up{$at})`, "{{node}}"}}},
			{title: "Time until a node took a signal", unit: "s", width: 12, help: "Tries again included. Below 10 ms is usual.",
				queries: quantiles(`sipwake_node_signal_seconds_bucket{$at}`)},
			{title: "Signals", unit: "cps", stacked: true, width: 12, help: "By answer: added and dup are good, nocontact is tried again, error is no answer.",
				queries: []query{{`sum by (node, result) (rate(sipwake_node_signals_total{$at}[$__rate_interval])) > 0`, "{{node}} {{result}}"}}},
			{title: "Signals without an answer", unit: "percentunit", width: 12, help: "Share of the signals to the node.",
				queries: []query{{`sum by (node) (rate(sipwake_node_signals_total{$at,result="error"}[$__rate_interval])) / sum by (node) (rate(sipwake_node_signals_total{$at}[$__rate_interval]))`, "{{node}}"}}},
		}}, {"Store", []panel{
			{kind: states, title: "Store", names: map[string]string{"0": "works", "1": "fails"}, steps: none, width: 8,
				help:    "Redis is away, or the last write to the file failed.",
				queries: []query{{`max by (instance) (sipwake_store_away{$at} or sipwake_store_failing{$at})`, "{{instance}}"}}},
			{title: "Errors", unit: "cps", help: "Reads and writes that failed.",
				queries: []query{{`sum by (instance) (rate(sipwake_store_errors_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
			{title: "Queue", unit: "percentunit", help: "Share of the places that are taken: what waits for Redis or the disk.",
				queries: []query{{`max by (instance) (sipwake_store_queue{$at} / sipwake_store_queue_capacity{$at})`, "{{instance}}"}}},
			{title: "Outbox", unit: "percentunit", help: "Share of the places for messages of applications that are taken, done ones included.",
				queries: []query{{`max by (instance) (sipwake_store_outbox{$at} / sipwake_store_outbox_capacity{$at})`, "{{instance}}"}}},
			{title: "Messages refused", unit: "cps", help: "The outbox was full.",
				queries: []query{{`sum by (instance) (rate(sipwake_store_outbox_rejected_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
			{title: "Timelines", unit: "cps", help: "Timelines of calls that were written, and those that were lost because the store was too slow.",
				queries: []query{{`sum(rate(sipwake_traces_written_total{$at}[$__rate_interval]))`, "written"}, {`sum(rate(sipwake_traces_dropped_total{$at}[$__rate_interval]))`, "lost"}}},
		}}, {"Embedded store", []panel{
			{title: "Time of a write", unit: "s", width: 12, help: "To the disk. A REGISTER of a new phone waits for it.",
				rare: "an instance has the embedded store", queries: quantiles(`sipwake_store_commit_seconds_bucket{$at}`)},
			{title: "Bindings that ran out", unit: "cps", width: 12, help: "Their retention is over.",
				rare: "an instance has the embedded store", queries: []query{{`sum by (instance) (rate(sipwake_store_swept_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
		}}, {"Redis", []panel{
			{title: "Spool", unit: "percentunit", help: "Share of the places for REGISTERs that wait for Redis.", rare: "an instance has Redis",
				queries: []query{{`max by (instance) (sipwake_store_spool{$at} / sipwake_store_spool_capacity{$at})`, "{{instance}}"}}},
			{title: "REGISTERs of the spool", unit: "cps", help: "Spooled while Redis was away, brought to Redis later, and lost.", rare: "an instance has Redis",
				queries: []query{
					{`sum(rate(sipwake_store_spooled_total{$at}[$__rate_interval]))`, "spooled"},
					{`sum(rate(sipwake_store_spool_replayed_total{$at}[$__rate_interval]))`, "stored later"},
					{`sum by (reason) (rate(sipwake_store_spool_dropped_total{$at}[$__rate_interval]))`, "lost: {{reason}}"},
				}},
			{title: "Calls while Redis is away", unit: "cps", help: "hits woke phones from memory; of misses nobody was woken.", rare: "an instance has Redis",
				queries: []query{
					{`sum(rate(sipwake_store_cache_hits_total{$at}[$__rate_interval]))`, "hits"},
					{`sum(rate(sipwake_store_cache_misses_total{$at}[$__rate_interval]))`, "misses"},
				}},
			{title: "Users that are remembered", unit: "percentunit", help: "Share of the cache for the time when Redis is away.", rare: "an instance has Redis",
				queries: []query{{`max by (instance) (sipwake_store_cache{$at} / sipwake_store_cache_capacity{$at})`, "{{instance}}"}}},
			{title: "Instances", help: "That share the store, as each of them sees it. They must agree.", rare: "an instance has Redis",
				queries: []query{{`max by (instance) (sipwake_instances{$at})`, "{{instance}}"}}},
			{title: "Calls taken over", unit: "cps", help: "Of instances that ended. Some at an upgrade are right.",
				queries: []query{{`sum by (instance) (rate(sipwake_wakes_adopted_total{$at}[$__rate_interval]))`, "{{instance}}"}}},
		}}}}
}
