package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Kubernetes gives each pod variables for the services of its namespace
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables): a service called web
// makes WEB_SERVICE_HOST, WEB_SERVICE_PORT, WEB_SERVICE_PORT_HTTP, WEB_PORT, WEB_PORT_80_TCP, WEB_PORT_80_TCP_ADDR.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// serviceURL matches Kubernetes' value of WEB_PORT. A person writes a number there, and must get an error.
var serviceURL = regexp.MustCompile(`^(tcp|udp|sctp)://`)

func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && serviceURL.MatchString(value)
}

// names refuses unknown names in our groups, and warns of other names that are close to ours.
func (l *loader) names() {
	known := make(map[string]bool)
	for _, s := range l.settings {
		known[s.name] = true
		if s.secret() {
			known[s.name+fileSuffix] = true
		}
	}
	candidates := slices.Sorted(maps.Keys(known)) // of two that are equally near, the first is suggested
	for name, value := range l.vars {
		group := l.groupOf(name)
		if known[name] || isServiceLink(name, value) {
			continue
		}
		near := nearest(name, candidates)
		base, isFile := strings.CutSuffix(name, fileSuffix)
		switch {
		case group == "" && near != "" && almost(name, near):
			l.warnings = append(l.warnings, shown(name)+": not a setting; did you mean "+near+"?")
		case group == "":
		case isFile && known[base]:
			l.problem(shown(name), "only secrets come from files; write the value itself to %s", base)
		case near != "":
			l.problem(shown(name), "unknown setting; did you mean %s?", near)
		default:
			l.problem(shown(name), "unknown setting; remove it (all names that begin with %s_ are ours)", group)
		}
	}
}

// maxTypos is how many typos a name may have to get a suggestion, but no more than one in three letters: with more, a
// suggestion is a guess.
const maxTypos = 3

// nearest returns the known name that was most likely meant by name, or empty.
func nearest(name string, known []string) string {
	best, least := "", min(maxTypos, len(name)/3)+1
	for _, candidate := range known {
		// A name can be very long: compare only names of about the same length.
		if d := len(candidate) - len(name); d >= least || -d >= least {
			continue
		}
		if d := typos(name, candidate); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// almost is nearest for names that may belong to another program: one typo in four letters of a name of six or more, and
// two at most (DATADIR, LOGLEVEL, WORKER).
func almost(name, near string) bool {
	return len(near) >= 6 && typos(name, near) <= min(2, len(near)/4)
}

// typos returns how many letters have to be inserted, deleted, replaced or swapped with their neighbour to make a into b:
// the optimal string alignment distance.
func typos(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// shown returns a name or path as it is shown in one line of a message.
func shown(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}
