package logging

import (
	"encoding"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.com/base-app/pkg/text"
)

// valueText returns a value as people read it.
func valueText(v slog.Value) string {
	if v.Kind() != slog.KindAny {
		return v.String()
	}
	switch x := v.Any().(type) {
	case error:
		return fmt.Sprint(x) // survives an Error method that panics
	case encoding.TextMarshaler:
		return marshalled(x)
	}
	if r := reflect.ValueOf(v.Any()); r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8 {
		return string(r.Bytes())
	}
	return fmt.Sprintf("%+v", v.Any())
}

func marshalled(m encoding.TextMarshaler) (s string) {
	defer func() {
		if p := recover(); p != nil {
			s = fmt.Sprintf("!PANIC: %v", p)
		}
	}()
	b, err := m.MarshalText()
	if err != nil {
		return fmt.Sprintf("!ERROR: %v", err)
	}
	return string(b)
}

// escaped returns s with everything that a terminal or a reader of lines could act upon written as a Go escape.
func escaped(s string) string {
	if !strings.ContainsFunc(s, isUnsafe) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case isUnsafe(r):
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

func isUnsafe(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// isPlain returns whether s reads as one word that needs no quotes.
func isPlain(s string) bool { return s != "" && !strings.ContainsFunc(s, isOdd) }

func isOdd(r rune) bool {
	return r == ' ' || r == '=' || r == '"' || r == '\\' || isUnsafe(r)
}

// maxName bounds app, worker and their like, so that a line of nothing but names fits; it is twice what DNS allows
// a label.
const maxName = 128

// name returns s as one plain word of at most maxName bytes, with underscores for what is odd in it.
func name(s string) string {
	if !isPlain(s) {
		s = strings.Map(func(r rune) rune {
			if isOdd(r) {
				return '_'
			}
			return r
		}, s)
	}
	return text.Clip(s, maxName)
}

// cut is text.Clip with a visible mark of how much is missing.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	c := text.Clip(s, n)
	return c + "…[+" + strconv.Itoa(len(s)-len(c)) + " bytes]"
}

// cutAll returns attrs with keys and values that are longer than n bytes cut. What is neither a number nor the like
// becomes a string.
func cutAll(attrs []slog.Attr, n int) []slog.Attr {
	list := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		v := a.Value.Resolve()
		switch v.Kind() {
		case slog.KindGroup:
			v = slog.GroupValue(cutAll(v.Group(), n)...)
		case slog.KindString, slog.KindAny:
			v = slog.StringValue(cut(valueText(v), n))
		}
		list[i] = slog.Attr{Key: text.Clip(a.Key, max(n, 64)), Value: v}
	}
	return list
}
