package base

import "runtime/debug"

// Set by the linker: -X example.com/base-app/pkg/base.version=1.2.3 and .commit=…; else the build's own information is used.
var version, commit string

// Build says what was built.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// ReadBuild returns what the linker and the Go tool stamped into the program.
func ReadBuild() Build {
	b := Build{Version: version, Commit: commit}
	info, ok := debug.ReadBuildInfo()
	if ok {
		b.Go = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && b.Commit == "" {
				b.Commit = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	return b
}
