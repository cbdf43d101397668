package main

import (
	"context"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/jobs"
)

func draft(ctx context.Context, _ cli.Env, r cli.InitRequest) (*cli.InitResponse, error) {
	yaml, tables, err := jobs.Draft(ctx, jobs.DraftRequest{Name: r.Name, Catalog: r.Catalog, Props: r.Props, Tables: r.Tables, Column: r.Column, Keys: r.Keys})
	resp := &cli.InitResponse{YAML: yaml}
	for _, t := range tables {
		resp.Tables = append(resp.Tables, cli.InitTable{Table: t.Table, Column: t.Column, Type: t.Type, Reason: t.Reason})
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}
