package dependency

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// Of an error that quotes a whole answer only the beginning is looked at.
	maxScrubbed = 4 << 10
	// One line in a terminal, and 64 of them in one /healthz.
	maxShown = 200

	hidden = "[redacted]"
)

// What follows the name of a credential: to the closing quote (of JSON, and of JSON within a string), to the first closing
// bracket, or to the next space.
const credentialValue = `((?:bearer|basic)\s+)?("(?:[^"\\]|\\(?s:.))*"?|'(?:[^'\\]|\\(?s:.))*'?|\\+"[^"]*"?|[\[{][^\]}]*[\]}]?|\S+)`

// Parts of names that sound like a credential wherever they stand, and words that do alone.
const (
	credentialPart = `passw|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|signature|credential|authorization|cookie|card[_-]?number`
	credentialWord = `pass|pw|pin|auth|session|jwt`
)

var (
	// A URL in quotes, which can hold spaces where somebody failed to escape them; and one up to what ends it in a text.
	quotedURL = regexp.MustCompile(`(?i)"[a-z][a-z0-9+.-]*://[^"]*|'[a-z][a-z0-9+.-]*://[^']*`)
	anyURL    = regexp.MustCompile("(?i)[a-z][a-z0-9+.-]*://[^\\s\"<>`]*")
	// user:password@, as in data source names without a scheme.
	userinfo = regexp.MustCompile(`[^\s:"]+:[^\s"]*@`)
	// A name that sounds like a credential, and its value.
	credential = regexp.MustCompile(`(?i)([\w.-]*(?:` + credentialPart + `)[\w.-]*(?:\\*["'])?\s*[=:]\s*)` + credentialValue)
	// One of the words is a name in quotes or before a =; "session: closed" is what somebody says.
	word = regexp.MustCompile(`(?i)(["'](?:[\w.-]*[_.-])?(?:` + credentialWord + `)(?:[_-](?:id|code|key))?\\*["']\s*[=:]\s*|\b(?:[\w.-]*[_.-])?(?:` + credentialWord + `)(?:[_-](?:id|code|key))?=)` + credentialValue)
	part = regexp.MustCompile(`(?i)` + credentialPart)
	only = regexp.MustCompile(`(?i)^(?:` + credentialWord + `)$`)
	// The words of a name: userPin, user_pin.
	words = regexp.MustCompile(`[A-Z]?[a-z]+|[A-Z]+`)
	// A JSON Web Token begins with the letters of {" in base64: https://www.rfc-editor.org/rfc/rfc7519#section-3.
	jwt = regexp.MustCompile(`\beyJ[\w-]{8,}(?:\.[\w-]*){0,4}`)
	// An HTTP credential without its header's name.
	bearer = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}`)
)

// Scrub returns text for people whom it can't be kept from: the first 4 KiB, of each URL only scheme and host (user,
// path and query can be secrets), and nothing that names itself a credential.
func Scrub(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > maxScrubbed { // at a space, so that no half of a URL escapes
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

// IsCredential tells whether a field of that name holds a secret, by the way it sounds. It is for those who know where a
// name's value ends, better than Scrub.
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

// scrubURL keeps scheme, host and port of a URL, and the colon of "url: cause", which is not a part of it.
func scrubURL(url string) string {
	url, colon := strings.CutSuffix(url, ":")
	scheme, rest, _ := strings.Cut(url, "://")
	at, end := strings.LastIndexByte(rest, '@'), strings.IndexAny(rest, "/?#")
	switch {
	case end >= 0 && end < at: // an @ in the path, or a password with a slash: who knows
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
