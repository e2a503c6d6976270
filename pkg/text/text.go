// Package text has the few things that every package does with a text before it leaves the process: make it short, and
// make it one line. It hides no secrets: pkg/dependency's Scrub does.
package text

import (
	"strings"
	"unicode/utf8"
)

// Clip returns the first n bytes of s, up to three less where the n-th byte would cut a rune.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := range min(n, utf8.UTFMax-1) + 1 {
		if utf8.RuneStart(s[n-back]) {
			return s[:n-back]
		}
	}
	return s[:n] // not UTF-8 there
}

// Ellipsis returns s if it has at most n bytes, else Clip's beginning of it with an ellipsis (three bytes more).
func Ellipsis(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return Clip(s, n) + "…"
}

// OneLine returns the words of s with one space between them: no line breaks, no other white space.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
