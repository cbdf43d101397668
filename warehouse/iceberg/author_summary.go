package iceberg

import (
	"strconv"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// changes counts what a snapshot adds and removes.
type changes struct {
	addedFiles, addedRows, addedBytes       int64
	removedFiles, removedRows, removedBytes int64 // data files
	removedDeleteBytes                      int64
	removedPosFiles, removedPosRows         int64
	removedDVs, removedEqFiles, removedEq   int64
	addedDeleteBytes                        int64
	addedPosFiles, addedPosRows             int64
	addedEqFiles, addedEq                   int64
}

func (c *changes) addData(rows, bytes int64) {
	c.addedFiles++
	c.addedRows += rows
	c.addedBytes += bytes
}

func (c *changes) removeData(rows, bytes int64) {
	c.removedFiles++
	c.removedRows += rows
	c.removedBytes += bytes
}

func (c *changes) removeDelete(kind string, rows, bytes int64) {
	c.removedDeleteBytes += bytes
	switch kind {
	case deleteEquality:
		c.removedEqFiles++
		c.removedEq += rows
	case deleteVector:
		c.removedDVs++
		c.removedPosRows += rows
	default:
		c.removedPosFiles++
		c.removedPosRows += rows
	}
}

func (c *changes) add(o changes) {
	c.addedFiles += o.addedFiles
	c.addedRows += o.addedRows
	c.addedBytes += o.addedBytes
	c.removedFiles += o.removedFiles
	c.removedRows += o.removedRows
	c.removedBytes += o.removedBytes
	c.removedDeleteBytes += o.removedDeleteBytes
	c.removedPosFiles += o.removedPosFiles
	c.removedPosRows += o.removedPosRows
	c.removedDVs += o.removedDVs
	c.removedEqFiles += o.removedEqFiles
	c.removedEq += o.removedEq
	c.addedDeleteBytes += o.addedDeleteBytes
	c.addedPosFiles += o.addedPosFiles
	c.addedPosRows += o.addedPosRows
	c.addedEqFiles += o.addedEqFiles
	c.addedEq += o.addedEq
}

// totals are a snapshot's running totals.
type totals struct {
	dataFiles, rows, deleteFiles, bytes, posDeletes, eqDeletes int64
}

// The summary keys are those of the specification's appendix on optional
// snapshot summary fields.
const (
	sumDataFiles   = "total-data-files"
	sumRows        = "total-records"
	sumDeleteFiles = "total-delete-files"
	sumBytes       = "total-files-size"
	sumPosDeletes  = "total-position-deletes"
	sumEqDeletes   = "total-equality-deletes"
)

// summary states what changed and the totals after it. A snapshot without
// totals would make every later one count from zero.
func (d draft) summary(parent *table.Snapshot) iceberg.Properties {
	props := iceberg.Properties{}
	for k, v := range d.props {
		props[k] = v
	}
	props[propVersion] = toolVersion()
	c := d.stats
	positive := func(key string, n int64) {
		if n > 0 {
			props[key] = strconv.FormatInt(n, 10)
		}
	}
	positive("added-data-files", c.addedFiles)
	positive("added-records", c.addedRows)
	positive("added-files-size", c.addedBytes+c.addedDeleteBytes)
	positive("deleted-data-files", c.removedFiles)
	positive("deleted-records", c.removedRows)
	positive("removed-files-size", c.removedBytes+c.removedDeleteBytes)
	positive("added-delete-files", c.addedPosFiles+c.addedEqFiles)
	positive("added-position-delete-files", c.addedPosFiles)
	positive("added-position-deletes", c.addedPosRows)
	positive("added-equality-delete-files", c.addedEqFiles)
	positive("added-equality-deletes", c.addedEq)
	positive("removed-delete-files", c.removedPosFiles+c.removedEqFiles+c.removedDVs)
	positive("removed-position-delete-files", c.removedPosFiles)
	positive("removed-position-deletes", c.removedPosRows)
	positive("removed-dvs", c.removedDVs)
	positive("removed-equality-delete-files", c.removedEqFiles)
	positive("removed-equality-deletes", c.removedEq)
	d.setTotals(props, parent)
	return props
}

func (d draft) setTotals(props iceberg.Properties, parent *table.Snapshot) {
	set := func(key string, n int64) {
		if n >= 0 {
			props[key] = strconv.FormatInt(n, 10)
		}
	}
	if t := d.exact; t != nil {
		set(sumDataFiles, t.dataFiles)
		set(sumRows, t.rows)
		set(sumDeleteFiles, t.deleteFiles)
		set(sumBytes, t.bytes)
		set(sumPosDeletes, t.posDeletes)
		set(sumEqDeletes, t.eqDeletes)
		return
	}
	c := d.stats
	before := func(key string) (int64, bool) {
		if parent.Summary == nil {
			return 0, false
		}
		n, err := strconv.ParseInt(parent.Summary.Properties[key], 10, 64)
		return n, err == nil
	}
	carry := func(key string, delta int64) {
		if n, ok := before(key); ok {
			set(key, n+delta)
		}
	}
	carry(sumBytes, c.addedBytes+c.addedDeleteBytes-c.removedBytes-c.removedDeleteBytes)
	carry(sumPosDeletes, c.addedPosRows-c.removedPosRows)
	carry(sumEqDeletes, c.addedEq-c.removedEq)
	carry(sumDataFiles, c.addedFiles-c.removedFiles)
	carry(sumRows, c.addedRows-c.removedRows)
	carry(sumDeleteFiles, c.addedPosFiles+c.addedEqFiles-c.removedPosFiles-c.removedEqFiles-c.removedDVs)
	// A manifest list counts files and rows: where it does, it is right even
	// when an earlier writer's summary was not.
	if t, ok := listTotals(d.manifests); ok {
		set(sumDataFiles, t.dataFiles)
		set(sumRows, t.rows)
		set(sumDeleteFiles, t.deleteFiles)
	}
}

// listTotals sums the counts that a manifest list states; false when one is
// unknown, as manifest lists of format 1 allow.
func listTotals(list []iceberg.ManifestFile) (totals, bool) {
	var t totals
	for _, m := range list {
		if m.AddedDataFiles() < 0 || m.ExistingDataFiles() < 0 || m.AddedRows() < 0 || m.ExistingRows() < 0 {
			return totals{}, false
		}
		files := int64(m.AddedDataFiles()) + int64(m.ExistingDataFiles())
		if m.ManifestContent() == iceberg.ManifestContentDeletes {
			t.deleteFiles += files
			continue
		}
		t.dataFiles += files
		t.rows += m.AddedRows() + m.ExistingRows()
	}
	return t, true
}
