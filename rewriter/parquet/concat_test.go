package parquet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// joined concatenates files in memory; below is the size under which row groups are merged.
func joined(below int64, files [][]byte, edits []rewriter.Edit) ([]byte, *Concatenated, error) {
	ins := make([]Input, len(files))
	for i, f := range files {
		ins[i] = Input{bytes.NewReader(f), int64(len(f))}
	}
	var out bytes.Buffer
	c := &concat{res: &Concatenated{Rows: make([]int64, len(files))}, copies: make([]func(off, n int64) error, len(files)), merge: below}
	res, err := c.run(context.Background(), ins, edits, Output{Writer: &out}, rewriter.Options{Workers: 2})
	return out.Bytes(), res, translate(err)
}

// Survivors of all files come out in order, whoever reads them, whether row
// groups are merged or copied; and the new file tells nothing wrong of itself.
func TestConcatKeepsSurvivors(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for i, s := range corpus(t) {
		if i%8 != 0 && (testing.Short() || !strings.Contains(s.name, "delta/v1") && !strings.Contains(s.name, "smalldict/v2")) {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			// The same rows with other dictionaries: each half lost the other's entries.
			front, _ := mustRewrite(t, s.data, rewriter.Edit{Erase: bitmapOf(0, s.rows/2)}, rewriter.Options{})
			back, _ := mustRewrite(t, s.data, rewriter.Edit{Erase: bitmapOf(s.rows/2, s.rows)}, rewriter.Options{})
			files := [][]byte{front, s.data, back, s.data}
			allLevels, allArrows := make([][]string, len(files)), make([][]string, len(files))
			for k, f := range files {
				allLevels[k], allArrows[k] = levelRows(t, f), arrowRows(t, f)
			}
			for name, erase := range erasures(r, s.rows/2) {
				if name != "none" && name != "tenth" && name != "group" && name != "most" {
					continue // less than the others have
				}
				for _, below := range []int64{0, mergeBelow} {
					edits := make([]rewriter.Edit, len(files))
					var levels, arrows []string
					var rows []int64
					for k := range files {
						edits[k].Erase = roaring64.New()
						if k%2 == 0 {
							edits[k].Erase = erase
						}
						kept := without(allArrows[k], edits[k].Erase)
						arrows = append(arrows, kept...)
						levels = append(levels, without(allLevels[k], edits[k].Erase)...)
						rows = append(rows, int64(len(kept)))
					}
					out, res, err := joined(below, files, edits)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if res.SHA256 != sha256.Sum256(out) || res.Size != int64(len(out)) || !slices.Equal(res.Rows, rows) || res.RowsOut != int64(len(arrows)) {
						t.Fatalf("%s: the result does not describe the output: %+v, want rows %v", name, res, rows)
					}
					if merges := res.RowGroupsMerged > 0; merges != (below > 0 && !strings.Contains(s.name, "bloom")) {
						t.Fatalf("%s: %d row groups merged below %d bytes", name, res.RowGroupsMerged, below)
					}
					sameRows(t, name+" by parquet-go", levelRows(t, out), levels)
					sameRows(t, name+" by arrow-go", arrowRows(t, out), arrows)
					truthful(t, fmt.Sprint(name, " below ", below), out, files...)
				}
			}
		})
	}
}

func bitmapOf(from, to int) *roaring64.Bitmap {
	b := roaring64.New()
	b.AddRange(uint64(from), uint64(to))
	return b
}

// truthful demands that a file says nothing wrong of its pages that the files it is made of do not say already.
func truthful(t *testing.T, name string, out []byte, sources ...[]byte) {
	t.Helper()
	known := map[string]bool{}
	for _, s := range sources {
		wrong, err := describe(s)
		if err != nil {
			t.Fatal(err)
		}
		for w := range wrong {
			known[w] = true
			// A page whose own bounds are wrong makes its chunk's wrong.
			if column, what, _ := strings.Cut(w, ": "); strings.HasSuffix(what, "bounds exclude a value") {
				known[column+": chunk statistics: bounds exclude a value"] = true
			}
		}
	}
	wrong, err := describe(out)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for w := range wrong {
		if !known[w] {
			t.Errorf("%s: wrong: %s", name, w)
		}
	}
}

// A merged dictionary holds no entry that only erased rows had.
func TestMergedDictionariesForgetErasedValues(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	s := arrowSample(t, r, "dictionaries", 240)
	for _, half := range []struct{ from, to int }{{0, s.rows / 2}, {s.rows / 2, s.rows}} {
		erase := bitmapOf(half.from, half.to)
		want, _ := mustRewrite(t, s.data, rewriter.Edit{Erase: erase}, rewriter.Options{})
		out, res, err := joined(mergeBelow, [][]byte{s.data, s.data}, []rewriter.Edit{{Erase: erase}, {Erase: erase}})
		if err != nil || res.RowGroupsMerged == 0 {
			t.Fatalf("%+v, %v", res, err)
		}
		known := dictionaryEntries(t, want)
		for e := range dictionaryEntries(t, out) {
			if !known[e] {
				t.Fatal("an entry of erased rows is in the merged dictionary")
			}
		}
	}
}

func dictionaryEntries(t *testing.T, data []byte) map[string]bool {
	t.Helper()
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, g := range f.RowGroups {
		for _, col := range f.Schema.Columns {
			c, err := g.Chunk(col)
			if err != nil {
				t.Fatal(err)
			}
			p, err := c.Pages(context.Background(), pq.ReadOptions{}).Next()
			if err != nil {
				t.Fatal(err)
			}
			dec := c.NewDecoder()
			if !c.HasDictionary() {
				continue
			}
			if err := dec.SetDictionary(p); err != nil {
				t.Fatal(err)
			}
			v := viewOf(dec.Dict, nil)
			for i := range v.n {
				out[col.Name()+"="+string(v.at(i))] = true
			}
		}
	}
	return out
}

// Row lineage of each file is its own, in merged row groups and in copied ones.
func TestConcatMaterialisesEachFilesLineage(t *testing.T) {
	s := goCorpus(t)[0]
	for _, below := range []int64{0, mergeBelow} {
		edits := []rewriter.Edit{
			{Erase: bitmap(0, 7), Lineage: &rewriter.Lineage{FirstRowID: 1000, Sequence: 4}},
			{Erase: bitmap(3), Lineage: &rewriter.Lineage{FirstRowID: 70, Sequence: 9}},
		}
		out, _, err := joined(below, [][]byte{s.data, s.data}, edits)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, e := range edits {
			one, _ := mustRewrite(t, s.data, e, rewriter.Options{})
			want = append(want, levelRows(t, one)...)
		}
		sameRows(t, "new lineage", levelRows(t, out), want)
		// Stored lineage wins over what would be inherited.
		again, _, err := joined(below, [][]byte{out, out}, []rewriter.Edit{{Lineage: &rewriter.Lineage{FirstRowID: 5, Sequence: 1}}, {Lineage: &rewriter.Lineage{FirstRowID: 6, Sequence: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		sameRows(t, "stored lineage", levelRows(t, again), append(slices.Clone(want), want...))
	}
}

// Files that say different things of themselves are refused before the first byte.
func TestConcatRefusesFilesOfDifferentKinds(t *testing.T) {
	all := goCorpus(t)
	other := arrowSample(t, rand.New(rand.NewPCG(1, 2)), "other", 60)
	for name, files := range map[string][][]byte{"schema": {all[0].data, other.data}, "nothing": nil} {
		out, _, err := joined(mergeBelow, files, make([]rewriter.Edit, len(files)))
		if !errors.Is(err, rewriter.ErrUnsupported) || len(out) > 0 {
			t.Errorf("%s: %d bytes, error %v", name, len(out), err)
		}
	}
	edits := []rewriter.Edit{{Lineage: &rewriter.Lineage{FirstRowID: 1}}, {}}
	if _, _, err := joined(mergeBelow, [][]byte{all[0].data, all[0].data}, edits); !errors.Is(err, rewriter.ErrUnsupported) {
		t.Errorf("lineage of one file only: %v", err)
	}
}

// What only a copy keeps keeps a row group from being merged: a bounding box
// without types, too, and fields that no library knows.
func TestRowGroupsWithMoreToTellAreNotMerged(t *testing.T) {
	s := goCorpus(t)[0]
	box := &thriftpatch.Struct{}
	for id := int16(1); id <= 4; id++ {
		box.SetDouble(id, 0) // all instances lie on one point
	}
	geo := &thriftpatch.Struct{}
	geo.SetStruct(1, box)
	for name, set := range map[string]func(m *thriftpatch.Struct){
		"nothing":       func(*thriftpatch.Struct) {},
		"bounding box":  func(m *thriftpatch.Struct) { m.SetStruct(metaGeoStatistics, geo) },
		"unknown field": func(m *thriftpatch.Struct) { m.SetBytes(778, []byte("field of the future")) },
	} {
		data := patchChunks(t, s.data, set)
		files := [][]byte{data, data}
		out, res, err := joined(mergeBelow, files, make([]rewriter.Edit, 2))
		if err != nil {
			t.Fatal(err)
		}
		if merged := res.RowGroupsMerged > 0; merged != (name == "nothing") {
			t.Errorf("%s: %d row groups merged", name, res.RowGroupsMerged)
		}
		sameRows(t, name, levelRows(t, out), append(levelRows(t, data), levelRows(t, data)...))
	}
}

// patchChunks changes the metadata of every column chunk of a file.
func patchChunks(t *testing.T, data []byte, change func(m *thriftpatch.Struct)) []byte {
	t.Helper()
	footer := openFooter(t, data)
	groups, _ := footer.List(fileRowGroups)
	for i := range groups.Values {
		g, _ := groups.Struct(i)
		columns, _ := g.List(groupColumns)
		for k := range columns.Values {
			c, _ := columns.Struct(k)
			m, _ := c.Struct(chunkMeta)
			change(m)
			c.SetStruct(chunkMeta, m)
			columns.Values[k] = c.Append(nil)
		}
		g.SetList(groupColumns, columns)
		groups.Values[i] = g.Append(nil)
	}
	footer.SetList(fileRowGroups, groups)
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return appendFooter(bytes.Clone(data[:f.FooterOffset]), footer)
}
