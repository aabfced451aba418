package services

import (
	"slices"
	"strings"
	"unicode"
)

// printable replaces control characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, text)
}

func sortedText(parts []string) string {
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
