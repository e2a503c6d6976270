package base

import (
	"example.com/base-app/pkg/alert"    // part alert
	"example.com/base-app/pkg/backup"   // part backup
	"example.com/base-app/pkg/chaos"    // part chaos
	"example.com/base-app/pkg/schedule" // part schedule
)

// A part is what a fork can do without. Part X is the folder pkg/X, the files X*.go here and in pkg/cli, and the lines
// that end with the comment "part X": in this file, in run.go, in the list of commands in pkg/cli, and in two tests. Nothing
// else may know it; the rest offers it what it offers everybody: registration calls, and the hooks of the Runtime.

// parts is what the parts keep in the Runtime.
type parts struct {
	Chaos    *chaos.Chaos        // part chaos
	jobs     *schedule.Scheduler // part schedule
	alerts   *alert.Alerts       // part alert
	problems *alert.Problems     // part alert
	alertEnd *alert.End          // part alert
}

// PartSettings are the settings of the parts.
type PartSettings struct {
	Alerts alert.Settings  // part alert
	Backup backup.Settings // part backup
}

func (s *PartSettings) resolve(dataDir string) {
	s.Backup.Resolve(dataDir) // part backup
}
