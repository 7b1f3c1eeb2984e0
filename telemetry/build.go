package telemetry

import (
	"runtime"
	"runtime/debug"
)

// Build says what was built, from what.
type Build struct {
	Version  string `json:"version"`            // a tag, or "devel"
	Revision string `json:"revision,omitempty"` // the commit, "+dirty" when the tree had changes
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// ReadBuild reads what the Go tool put into the binary. A version given by the
// linker wins.
func ReadBuild(version string) Build {
	b := Build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b.named()
	}
	if v := info.Main.Version; b.Version == "" && v != "(devel)" {
		b.Version = v
	}
	var dirty bool
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		b.Revision += "+dirty"
	}
	return b.named()
}

func (b Build) named() Build {
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}
