package main

import (
	"runtime"
	"runtime/debug"

	"github.com/expunge/expunge/cmd/expunge/cli"
)

// release is set by the linker for published builds.
var release = ""

// backend connects the commands to the packages that do the work.
func backend() cli.Backend {
	b := cli.Backend{
		Demo:     runDemo,
		Init:     initJob,
		Serve:    serve,
		Classify: classify,
		Version:  version,
	}
	bindJobs(&b)
	bindManifests(&b)
	bindEvidence(&b)
	bindFile(&b)
	return b
}

func version() cli.VersionResponse {
	v := cli.VersionResponse{Version: "development", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" && info.Main.Version != "(devel)" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	if release != "" {
		v.Version = release
	}
	return v
}
