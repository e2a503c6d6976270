package main

import "example.com/base-app/pkg/base"

// config is every setting of the app: the template's, and your own below. Begin the names with APP_.
type config struct {
	base.Settings

	SampleEvent bool `envconfig:"APP_SAMPLE_EVENT" default:"true" desc:"post one sample event at start, so that the first run shows something"`
}
