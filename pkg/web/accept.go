package web

import "strings"

// prefersHTML returns whether the values of Accept rank text/html above JSON, as browsers do. A client that ranks both
// alike, or accepts anything, gets JSON. The grammar is RFC 9110, 12.5.1; elements that don't follow it are ignored.
func prefersHTML(accept []string) bool {
	var html, problem, plain quality
	for _, value := range accept {
		for value != "" {
			var element string
			element, value = cutOutside(value, ',')
			name, q, ok := mediaRange(element)
			if !ok {
				continue
			}
			html.consider(name, q, "text/html")
			problem.consider(name, q, problemType)
			plain.consider(name, q, "application/json")
		}
	}
	return html.q > max(problem.q, plain.q)
}

// quality returns how much the client wants a media type, in thousandths. If several ranges match, the most specific
// counts.
type quality struct{ q, specific int }

func (y *quality) consider(name string, q int, media string) {
	specific := 0
	family, _, _ := strings.Cut(media, "/")
	switch {
	case strings.EqualFold(name, media):
		specific = 3
	case strings.EqualFold(name, family+"/*"):
		specific = 2
	case name == "*/*":
		specific = 1
	}
	if specific > y.specific || specific > 0 && specific == y.specific && q > y.q {
		y.q, y.specific = q, specific
	}
}

// mediaRange reads one element: a media range, parameters, and among them q. A range with parameters of its own counts
// like one without: we have one form of each type.
func mediaRange(element string) (name string, q int, ok bool) {
	name, rest := cutOutside(element, ';')
	name = strings.Trim(name, " \t")
	family, sub, found := strings.Cut(name, "/")
	if !found || !token(family) || !token(sub) {
		return "", 0, false
	}
	q = 1000
	for rest != "" {
		var p string
		p, rest = cutOutside(rest, ';')
		if key, value, _ := strings.Cut(strings.Trim(p, " \t"), "="); strings.EqualFold(key, "q") {
			if q, ok = thousandths(value); !ok {
				return "", 0, false
			}
		}
	}
	return name, q, true
}

// thousandths reads a qvalue: 0 to 1 with up to three decimals.
func thousandths(s string) (int, bool) {
	whole, decimals, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(decimals) > 3 {
		return 0, false
	}
	q := int(whole[0]-'0') * 1000
	for i, worth := 0, 100; i < len(decimals); i, worth = i+1, worth/10 {
		if decimals[i] < '0' || decimals[i] > '9' {
			return 0, false
		}
		q += int(decimals[i]-'0') * worth
	}
	return q, q <= 1000
}

// cutOutside is strings.Cut at the first c that doesn't stand in a quoted string.
func cutOutside(s string, c byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == c && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// token returns whether s is a token of RFC 9110, 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
