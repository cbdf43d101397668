package jobs

import (
	"testing"

	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
)

// TestEverySurfaceHasPlainWords: whatever surface a run can name, a report
// explains to somebody who does not know file formats.
func TestEverySurfaceHasPlainWords(t *testing.T) {
	for _, s := range []string{
		verifier.LiveRows, verifier.TombstonedRows, verifier.History, verifier.DataPages, verifier.Dictionaries, verifier.Statistics, verifier.PageIndexes,
		verifier.BloomFilters, verifier.FileMetadata, verifier.FileGaps, verifier.ManifestBounds, verifier.PartitionValues, verifier.ListSummaries,
		verifier.EqualityDeletes, verifier.PositionDeletes, verifier.Puffin, verifier.Paths, verifier.TableMetadata, verifier.Orphans,
		surfaceSurvivors, surfaceReplaced, surfaceVersions, surfaceCopies, surfaceSoft, "replaced files and history",
	} {
		if manifests.SurfaceMeaning(s) == "" {
			t.Errorf("nobody says what %q is", s)
		}
	}
}
