package main

import (
	"context"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs/filetool"
)

// bindFile connects expunge file to package filetool. Clouds are reached by
// their default credential chains.
func bindFile(b *cli.Backend) {
	b.FileErase, b.FileCheck, b.FileInspect = fileErase, fileCheck, fileInspect
}

func fileStore() storage.Store {
	return storage.WithRetry(storage.New(nil), storage.DefaultRetry)
}

func fileRequest(r cli.FileRequest) filetool.Request {
	return filetool.Request{Input: r.Input, Columns: r.Columns, Keys: r.Keys, Format: r.KeysFormat, Types: r.KeyTypes}
}

func fileErase(ctx context.Context, _ cli.Env, r cli.FileRequest) (*cli.FileResponse, error) {
	done, err := filetool.Erase(ctx, fileStore(), fileRequest(r), r.Output, filetool.EraseOptions{Engine: r.Engine, Workers: r.Workers, NoCheck: r.NoCheck, Digest: r.SHA256})
	if err != nil {
		return nil, err
	}
	out := &cli.FileResponse{Input: r.Input, Output: r.Output, Rows: done.RowsIn, Erased: done.RowsIn - done.RowsOut, Engine: done.Engine, Fallback: done.Fallback,
		BytesRead: done.BytesRead, BytesCopied: done.BytesCopied, BytesEncoded: done.BytesReencoded,
		PagesTouched: int64(done.PagesTouched), PagesTotal: int64(done.PagesTotal), Size: done.Size, SHA256: done.Digest}
	if done.Empty {
		out.Output, out.Empty = "", true
	}
	return out, nil
}

func fileCheck(ctx context.Context, _ cli.Env, r cli.FileRequest) (*cli.FileResponse, error) {
	rep, err := filetool.Check(ctx, fileStore(), fileRequest(r))
	if err != nil {
		return nil, err
	}
	out := &cli.FileResponse{Input: r.Input, Rows: rep.Rows, BytesRead: rep.BytesRead}
	for _, s := range rep.Surfaces {
		out.Found += s.Findings
		out.Surfaces = append(out.Surfaces, cli.Surface{Name: s.Name, Checked: s.Objects, Coverage: float64(s.CoveragePPM) / 1e6, Residue: s.Findings, Detail: s.Note})
	}
	for _, f := range rep.Findings {
		certain := "certain"
		if !f.Certain {
			certain = "possible"
		}
		out.Findings = append(out.Findings, cli.FileFinding{Surface: f.Surface, Column: f.Column, Count: f.Count, What: f.State, Certainty: certain})
	}
	return out, nil
}

func fileInspect(ctx context.Context, _ cli.Env, r cli.FileRequest) (*cli.FileResponse, error) {
	d, err := filetool.Inspect(ctx, fileStore(), r.Input, r.Columns, r.Pages)
	if err != nil {
		return nil, err
	}
	out := &cli.FileResponse{Input: r.Input, Rows: d.Rows, Size: d.Size}
	for _, s := range d.Sections {
		out.Sections = append(out.Sections, cli.TableSection{Title: s.Title, Head: s.Head, Rows: s.Rows})
	}
	return out, nil
}
