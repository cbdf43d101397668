package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/expunge/expunge/storage"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// holds says whether a line is of a key. It shares nothing with Scan: keys are
// strings, and every one of the line's first field is asked for in the set itself.
func holds(line []byte, m []warehouse.BoundMatch) bool {
	tab := bytes.IndexByte(line, '\t')
	for _, b := range m {
		if key, err := b.Keys.Schema()[0].AppendText(nil, line[:max(tab, 0)]); err == nil && b.Keys.Contains(key) {
			return true
		}
	}
	return false
}

func (l *ledger) lines(ctx context.Context, path string) ([][]byte, int64, error) {
	raw, err := storage.ReadAll(ctx, l.store, path)
	if err != nil {
		return nil, 0, err
	}
	all := bytes.SplitAfter(raw, []byte("\n"))
	if len(all[len(all)-1]) == 0 {
		all = all[:len(all)-1]
	}
	return all, int64(len(raw)), nil
}

// Compare reads both files whole: the new one must be the old one less the lines of a key.
func (l *ledger) Compare(ctx context.Context, r verifier.Rewrite) (*verifier.RewriteReport, error) {
	old, n, err := l.lines(ctx, r.Old.Path)
	if err != nil {
		return nil, fmt.Errorf("read the replaced file: %w", err)
	}
	rep := &verifier.RewriteReport{RowsOld: int64(len(old)), Columns: 2, BytesRead: n, Equal: true}
	var want, got [][]byte
	for _, line := range old {
		if holds(line, r.Matches) {
			rep.Erased, rep.ControlBefore = rep.Erased+1, true
		} else {
			want = append(want, line)
		}
	}
	if r.New != "" {
		if got, n, err = l.lines(ctx, r.New); err != nil {
			return nil, fmt.Errorf("read the replacement: %w", err)
		}
		rep.BytesRead += n
	}
	rep.RowsNew = int64(len(got))
	for i, line := range got {
		rep.ControlAfter = rep.ControlAfter || holds(line, r.Matches)
		if i >= len(want) || !bytes.Equal(line, want[i]) {
			rep.Equal, rep.Difference = false, fmt.Sprintf("line %d", i+1)
		}
	}
	if len(got) != len(want) {
		rep.Equal, rep.Difference = false, "number of lines"
	}
	return rep, nil
}

// Look searches the live files, and the replaced ones that lie beside them until a purge.
func (l *ledger) Look(ctx context.Context, m []warehouse.BoundMatch, o verifier.Options) (*verifier.Report, error) {
	c, _, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	live := verifier.Surface{Name: verifier.LiveRows, Result: verifier.Pass}
	beside := verifier.Surface{Name: verifier.History, Result: verifier.NotChecked}
	if o.Metadata {
		beside.Result, beside.CoveragePPM = verifier.Pass, 1_000_000
	}
	rep := &verifier.Report{Target: l.name, SnapshotID: c.Version, Mode: o.Mode}
	for info, err := range l.store.List(ctx, l.root+"data/") {
		if err != nil {
			return nil, fmt.Errorf("list ledger: %w", err)
		}
		s, found := &beside, verifier.Residue
		if c.has(info.Path) {
			s, found = &live, verifier.Fail
		}
		if s.Total++; s == &beside && !o.Metadata || s == &live && o.Mode == verifier.ModeRewritten && o.Only != nil && !o.Only(info.Path) {
			continue
		}
		lines, n, err := l.lines(ctx, info.Path)
		if err != nil {
			return nil, fmt.Errorf("read a file of the ledger: %w", err)
		}
		s.Objects, s.BytesRead, rep.BytesRead = s.Objects+1, s.BytesRead+n, rep.BytesRead+n
		for _, line := range lines {
			if rep.RowsRead++; holds(line, m) {
				s.Findings, s.Result = s.Findings+1, found
			}
		}
	}
	live.CoveragePPM = 1_000_000
	if live.Total > 0 {
		live.CoveragePPM = live.Objects * 1_000_000 / live.Total
	}
	rep.Surfaces = []verifier.Surface{live, beside}
	return rep, nil
}
