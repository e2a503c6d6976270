package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"example.com/base-app/pkg/base"
	settings "example.com/base-app/pkg/config"
)

// The page has each setting of the template as it is. What a fork adds to it appears by `make docs`.
func TestThePageOfSettingsHasTheTemplates(t *testing.T) {
	list, err := settings.Describe(&struct{ base.Settings }{})
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := settings.WriteMarkdown(&want, list); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(want.String()) {
		if !bytes.Contains(page, []byte(line)) {
			t.Errorf("docs/settings.md lacks the line below: run make docs\n%s", line)
		}
	}
}
