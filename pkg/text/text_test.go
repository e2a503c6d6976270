package text_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/base-app/pkg/text"
)

func Example() {
	fmt.Println(text.OneLine("it failed:\n\ttoo many\r\n"))
	fmt.Println(text.Ellipsis("Überraschung", 4))
	// Output:
	// it failed: too many
	// Übe…
}

func TestClipKeepsRunesWhole(t *testing.T) {
	for _, s := range []string{"", "plain words", "äöü€😀ß", strings.Repeat("😀", 5)} {
		for n := range len(s) + 2 {
			have := text.Clip(s, n)
			if !utf8.ValidString(have) || !strings.HasPrefix(s, have) || len(have) > n || len(have) < min(n, len(s))-3 {
				t.Errorf("Clip(%q, %d): have %q", s, n, have)
			}
			if cut := text.Ellipsis(s, n); cut != have && cut != have+"…" || (cut == have) != (len(s) <= n) {
				t.Errorf("Ellipsis(%q, %d): have %q", s, n, cut)
			}
		}
	}
	if have := text.Clip(strings.Repeat("\x80", 100), 50); len(have) != 50 {
		t.Errorf("want what is no UTF-8 cut, too, have %d bytes", len(have))
	}
}
