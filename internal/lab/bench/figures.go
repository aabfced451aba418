package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// figure has the measurements of one thing, one for each round.
type figure struct {
	name, unit string
	values     []float64
}

// figures are all figures, in the order of their first measurements.
type figures struct {
	list []*figure
}

func (f *figures) find(name string) *figure {
	for _, g := range f.list {
		if g.name == name {
			return g
		}
	}
	return nil
}

func (f *figures) add(name, unit string, value float64) {
	g := f.find(name)
	if g == nil {
		g = &figure{name: name, unit: unit}
		f.list = append(f.list, g)
	}
	g.values = append(g.values, value)
}

// ratio adds the ratio of the last values of two figures, both from the same round.
func (f *figures) ratio(name, of, to string) {
	a, b := f.find(of), f.find(to)
	if a == nil || b == nil {
		return
	}
	f.add(name, "x", a.values[len(a.values)-1]/b.values[len(b.values)-1])
}

// print writes the table.
func (f *figures) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tMEDIAN\tMIN\tMAX\tUNIT\tROUNDS")
	for _, g := range f.list {
		fmt.Fprintf(t, "%s\t%.4g\t%.4g\t%.4g\t%s\t%d\n", g.name, median(g.values), slices.Min(g.values), slices.Max(g.values), g.unit, len(g.values))
	}
	_ = t.Flush() // to the terminal
}

// budget is a limit for a figure's median.
type budget struct {
	figure string
	atMost bool
	limit  float64
}

func atMost(figure string, limit float64) budget  { return budget{figure, true, limit} }
func atLeast(figure string, limit float64) budget { return budget{figure, false, limit} }

var budgets = []budget{
	atMost("call, local cpu", 45),
	atMost("call, redis cpu", 60),
	atLeast("gorush cpu of a call's, local", 3), // if it is on PATH
	atMost("register cpu of the echo's, local", 2),
	atMost("register cpu of the echo's, redis", 3),
	atMost("register cpu of Redis", 14),
	atMost("start p99 of the echo's, local", 3),
	atMost("start p99 of the echo's, redis", 3),
	atMost("register time of few to many, local", 1.2),
	atMost("register time of few to many, redis", 1.2),
	atMost("register p99 of few to many, local", 1.2),
	atMost("register p99 of few to many, redis", 1.2),
	atMost("binding in Redis, token of 64", 600),
	atMost("binding in Redis, token of 140", 800),
	atMost("memory idle, local", 40),
	atMost("memory idle, redis", 40),
	atMost("memory at the peak, local", 160),
	atMost("memory at the peak, redis", 160),
	atMost("binding in memory, local", 600),
	atLeast("new bindings of batched fsync's, local", .5),
	atMost("refresh look of few to many, local", 2),
	atMost("refresh look of few to many, redis", 2),
}

// judge writes one line for each budget.
func (f *figures) judge(w io.Writer) {
	for _, b := range budgets {
		name := underscores(b.figure)
		op := "<="
		if !b.atMost {
			op = ">="
		}
		g := f.find(b.figure)
		if g == nil {
			fmt.Fprintf(w, "BUDGET %s - %s %g not measured\n", name, op, b.limit)
			continue
		}
		value, verdict := median(g.values), "ok"
		if order := cmp.Compare(value, b.limit); b.atMost && order > 0 || !b.atMost && order < 0 {
			verdict = "miss"
		}
		fmt.Fprintf(w, "BUDGET %s %.4g %s %g %s\n", name, value, op, b.limit, verdict)
	}
}

// underscores makes a figure's name one word.
func underscores(name string) string {
	word := make([]byte, 0, len(name))
	for i := range len(name) {
		switch c := name[i]; c {
		case ' ':
			word = append(word, '_')
		case ',', '\'':
		default:
			word = append(word, c)
		}
	}
	return string(word)
}

func median(list []float64) float64 {
	list = slices.Clone(list)
	slices.Sort(list)
	if n := len(list); n%2 == 0 {
		return (list[n/2-1] + list[n/2]) / 2
	}
	return list[len(list)/2]
}
