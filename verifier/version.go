package verifier

import "runtime/debug"

// Library is what the verifier reads Parquet with, for the manifest.
const Library = "arrow-go"

// Version is the version of Library that this program was built with, "" when
// the build does not say.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/apache/arrow-go/v18" {
			if d.Replace != nil {
				return d.Replace.Version
			}
			return d.Version
		}
	}
	return ""
}
