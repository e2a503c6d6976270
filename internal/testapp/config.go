package main

import (
	"time"

	"example.com/base-app/pkg/base"
)

type config struct {
	base.Settings

	Bank   string        `envconfig:"APP_BANK_URL" desc:"where payments are confirmed; empty means that they need no confirmation"`
	Poll   time.Duration `envconfig:"APP_POLL_EVERY" default:"1s" min:"1ms" desc:"time between two looks at the shop"`
	Forget bool          `envconfig:"APP_FORGET_CLOSE" default:"false" desc:"have a worker that opens a socket and never closes it"`
}
