package main

import "example.com/base-app/pkg/base"

// config is every setting of the app: the template's, and your own below. Begin their names with APP_.
type config struct {
	base.Settings

	Greeting string `envconfig:"APP_GREETING" default:"hello" desc:"what GET /hello answers"`
}
