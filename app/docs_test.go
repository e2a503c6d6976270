package main

import (
	"bytes"
	"os"
	"testing"

	settings "example.com/base-app/pkg/config"
)

func TestThePageOfSettingsIsCurrent(t *testing.T) {
	list, err := settings.Describe(&config{})
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := settings.WriteMarkdown(&want, list); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want.Bytes()) {
		t.Error("docs/settings.md is not what `app config --markdown` prints: run make docs")
	}
}
