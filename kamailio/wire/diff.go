package wire

import (
	"fmt"
	"slices"
	"strings"
)

// context is how many unchanged lines a hunk has around a change.
const context = 3

// Diff returns a unified diff between two texts, for patch -p0; empty if they are equal.
// An empty text stands for a file that does not exist.
func Diff(name, from, to string) string {
	a, b := lines(from), lines(to)
	common := longest(a, b)
	was := "--- " + name + "\n"
	if from == "" {
		was = "--- /dev/null\n"
	}
	var out strings.Builder
	for _, h := range hunks(a, b, common) {
		out.WriteString(h)
	}
	if out.Len() == 0 {
		return ""
	}
	return was + "+++ " + name + "\n" + out.String()
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	l := strings.SplitAfter(s, "\n")
	if l[len(l)-1] == "" {
		l = l[:len(l)-1]
	}
	return l
}

type match struct{ a, b int }

// longest returns the longest common subsequence of lines.
func longest(a, b []string) []match {
	// Usually both ends are equal. Cutting them off keeps the table small.
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && a[endA-1] == b[endB-1] {
		endA--
		endB--
	}
	n, m := endA-start, endB-start
	table := make([][]int32, n+1)
	for i := range table {
		table[i] = make([]int32, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if a[start+i] == b[start+j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	var common []match
	for i := range start {
		common = append(common, match{i, i})
	}
	for i, j := 0, 0; i < n && j < m; {
		switch {
		case a[start+i] == b[start+j]:
			common = append(common, match{start + i, start + j})
			i++
			j++
		case table[i+1][j] >= table[i][j+1]:
			i++
		default:
			j++
		}
	}
	for i := endA; i < len(a); i++ {
		common = append(common, match{i, endB + i - endA})
	}
	return common
}

// line of a diff.
type diffLine struct {
	sign byte
	text string
	a, b int // its position in both texts, from 0
}

func hunks(a, b []string, common []match) []string {
	var all []diffLine
	i, j := 0, 0
	upTo := func(x, y int) {
		for ; i < x; i++ {
			all = append(all, diffLine{'-', a[i], i, j})
		}
		for ; j < y; j++ {
			all = append(all, diffLine{'+', b[j], i, j})
		}
	}
	for _, m := range common {
		upTo(m.a, m.b)
		all = append(all, diffLine{' ', a[i], i, j})
		i++
		j++
	}
	upTo(len(a), len(b))
	var out []string
	for at := 0; at < len(all); {
		first := slices.IndexFunc(all[at:], func(l diffLine) bool { return l.sign != ' ' })
		if first < 0 {
			break
		}
		first += at
		last, end := first, first
		for ; end < len(all) && end-last <= 2*context; end++ {
			if all[end].sign != ' ' {
				last = end
			}
		}
		from, to := max(first-context, at), min(last+context+1, len(all))
		out = append(out, hunk(all[from:to]))
		at = to
	}
	return out
}

func hunk(part []diffLine) string {
	var b strings.Builder
	n, m := 0, 0
	for _, l := range part {
		if l.sign != '+' {
			n++
		}
		if l.sign != '-' {
			m++
		}
		b.WriteByte(l.sign)
		b.WriteString(l.text)
		if !strings.HasSuffix(l.text, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
	begin := func(at, n int) int {
		if n == 0 {
			return at
		}
		return at + 1
	}
	return fmt.Sprintf("@@ -%d,%d +%d,%d @@\n", begin(part[0].a, n), n, begin(part[0].b, m), m) + b.String()
}
