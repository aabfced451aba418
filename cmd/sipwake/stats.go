package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

type statsCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
}

// Run prints the most useful figures of service.stats: bindings, REGISTERs, calls, and
// pushes by app.
func (c *statsCmd) Run() error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	var figures map[string]float64
	if err := cl.call(context.Background(), "service.stats", map[string]any{}, &figures); err != nil {
		return err
	}
	return printStats(os.Stdout, figures)
}

// figure is one value of service.stats.
type figure struct {
	labels map[string]string
	n      float64
}

// figuresOf returns the figures with the name that are not zero.
func figuresOf(all map[string]float64, name string) (list []figure) {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		labels, ok := strings.CutPrefix(key, name+"{")
		if !ok || all[key] == 0 {
			continue
		}
		f := figure{map[string]string{}, all[key]}
		for part := range strings.SplitSeq(strings.TrimSuffix(labels, "}"), ",") {
			k, v, _ := strings.Cut(part, "=")
			f.labels[k] = v
		}
		list = append(list, f)
	}
	return list
}

// sums adds up the figures by a label and formats the sums, the largest first.
func sums(list []figure, label string) string {
	by := map[string]float64{}
	for _, f := range list {
		by[f.labels[label]] += f.n
	}
	names := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		if by[a] != by[b] {
			return int(by[b] - by[a])
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%.0f %s", by[name], name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func printStats(w io.Writer, all map[string]float64) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "REGISTERs\t%s\n", sums(figuresOf(all, "sipwake_registers_total"), "status"))
	fmt.Fprintf(out, "calls and messages\t%s\n", sums(figuresOf(all, "sipwake_wakes_total"), "outcome"))
	fmt.Fprintf(out, "ended\t%s\n", sums(figuresOf(all, "sipwake_wake_ends_total"), "reason"))
	fmt.Fprintf(out, "bindings removed\t%s\n", sums(figuresOf(all, "sipwake_bindings_removed_total"), "reason"))
	type app struct{ provider, app string }
	appOf := func(f figure) app { return app{f.labels["provider"], f.labels["app"]} }
	bindings, pushes := map[app]float64{}, map[app][]figure{}
	for _, f := range figuresOf(all, "sipwake_bindings") {
		bindings[appOf(f)] += f.n
	}
	for _, f := range figuresOf(all, "sipwake_push_total") {
		pushes[appOf(f)] = append(pushes[appOf(f)], f)
	}
	apps := slices.Collect(maps.Keys(pushes))
	for a := range bindings {
		if pushes[a] == nil {
			apps = append(apps, a)
		}
	}
	slices.SortFunc(apps, func(a, b app) int { return strings.Compare(a.provider+" "+a.app, b.provider+" "+b.app) })
	for _, a := range apps {
		fmt.Fprintf(out, "%s %s\t%.0f bindings; pushes: %s\n", a.provider, a.app, bindings[a], sums(pushes[a], "reason"))
	}
	return out.Flush()
}
