package dependency

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// An error may quote a whole answer: only the beginning is used.
	maxScrubbed = 4 << 10
	// One line in a terminal, and 64 of them in one /healthz.
	maxShown = 200

	hidden = "[redacted]"
)

// The value after the name of a credential: up to the closing quote (of JSON, and of JSON within a string), the first
// closing bracket, or the next space.
const credentialValue = `((?:bearer|basic)\s+)?("(?:[^"\\]|\\(?s:.))*"?|'(?:[^'\\]|\\(?s:.))*'?|\\+"[^"]*"?|[\[{][^\]}]*[\]}]?|\S+)`

// Parts that make a name that of a credential wherever they stand in it, and words that do so alone.
const (
	credentialPart = `passw|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|` +
		`signature|credential|authorization|cookie|card[_-]?number`
	credentialWord = `pass|pw|pin|auth|session|jwt`
)

var (
	// A URL in quotes, which may hold spaces that are not escaped; and a URL in plain text.
	quotedURL = regexp.MustCompile(`(?i)"[a-z][a-z0-9+.-]*://[^"]*|'[a-z][a-z0-9+.-]*://[^']*`)
	anyURL    = regexp.MustCompile("(?i)[a-z][a-z0-9+.-]*://[^\\s\"<>`]*")
	// user:password@, as in data source names without a scheme.
	userinfo = regexp.MustCompile(`[^\s:"]+:[^\s"]*@`)
	// The name of a credential, and its value.
	credential = regexp.MustCompile(`(?i)([\w.-]*(?:` + credentialPart + `)[\w.-]*(?:\\*["'])?\s*[=:]\s*)` + credentialValue)
	// A word is a name only in quotes or before a =; "session: closed" is ordinary text.
	word = regexp.MustCompile(`(?i)(["'](?:[\w.-]*[_.-])?(?:` + credentialWord + `)(?:[_-](?:id|code|key))?\\*["']\s*[=:]\s*|` +
		`\b(?:[\w.-]*[_.-])?(?:` + credentialWord + `)(?:[_-](?:id|code|key))?=)` + credentialValue)
	part = regexp.MustCompile(`(?i)` + credentialPart)
	only = regexp.MustCompile(`(?i)^(?:` + credentialWord + `)$`)
	// The words of a name: userPin, user_pin.
	words = regexp.MustCompile(`[A-Z]?[a-z]+|[A-Z]+`)
	// A JSON Web Token begins with the letters of {" in base64: https://www.rfc-editor.org/rfc/rfc7519#section-3.
	jwt = regexp.MustCompile(`\beyJ[\w-]{8,}(?:\.[\w-]*){0,4}`)
	// An HTTP credential without its header's name.
	bearer = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}`)
)

// Scrub removes secrets from text that people will read. It keeps the first 4 KiB, only scheme and host of each URL
// (user, path and query can be secrets), and no value whose name sounds like a credential.
func Scrub(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > maxScrubbed { // cut at a space: half a URL would not be recognised
		text = text[:max(0, strings.LastIndexAny(text[:maxScrubbed], " \n"))] + " …"
	}
	text = quotedURL.ReplaceAllStringFunc(text, scrubURL)
	text = anyURL.ReplaceAllStringFunc(text, scrubURL)
	text = userinfo.ReplaceAllString(text, hidden+"@")
	text = credential.ReplaceAllString(text, "${1}"+hidden)
	text = word.ReplaceAllString(text, "${1}"+hidden)
	text = jwt.ReplaceAllString(text, hidden)
	return bearer.ReplaceAllString(text, "${1} "+hidden)
}

// IsCredential returns whether the name of a field sounds like that of a secret. It is for callers that know where the
// field's value ends, better than Scrub.
func IsCredential(name string) bool {
	return part.MatchString(name) || slices.ContainsFunc(words.FindAllString(name, -1), only.MatchString)
}

// scrub returns err's text after Scrub, short and on one line.
func scrub(err error) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, Scrub(err.Error()))
	return shorten(text)
}

// scrubURL keeps scheme, host and port of a URL, and the colon of "url: cause", which is not a part of the URL.
func scrubURL(url string) string {
	url, colon := strings.CutSuffix(url, ":")
	scheme, rest, _ := strings.Cut(url, "://")
	at, end := strings.LastIndexByte(rest, '@'), strings.IndexAny(rest, "/?#")
	switch {
	case end >= 0 && end < at: // either an @ in the path, or a password with a slash
		rest = hidden
	case end >= 0:
		rest = rest[at+1 : end]
	default:
		rest = rest[at+1:]
	}
	if colon {
		rest += ":"
	}
	return scheme + "://" + rest
}

func shorten(text string) string {
	if len(text) <= maxShown {
		return text
	}
	cut := maxShown
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
