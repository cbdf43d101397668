package main

import (
	"context"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/jobs/draft"
)

func initJob(ctx context.Context, _ cli.Env, r cli.InitRequest) (*cli.InitResponse, error) {
	d, err := draft.New(ctx, draft.Request{Name: r.Name, Catalog: r.Catalog, Props: r.Props, Tables: r.Tables, Column: r.Column, Keys: r.Keys})
	if err != nil {
		return nil, err
	}
	out := &cli.InitResponse{YAML: d.YAML}
	for _, t := range d.Tables {
		out.Tables = append(out.Tables, cli.InitTable{Table: t.Name, Column: t.Column, Type: t.Type, Reason: t.Reason})
	}
	return out, nil
}
