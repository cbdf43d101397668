package cli

import (
	"github.com/spf13/cobra"

	"github.com/expunge/expunge/configs"
)

func (a *app) demo() *cobra.Command {
	var (
		req  DemoRequest
		rows string
	)
	c := &cobra.Command{
		Use:     "demo",
		GroupID: "start",
		Short:   "Make a small lakehouse on this machine and run the nightly job on it",
		Long: `Makes an embedded lakehouse (SQLite catalog, local folder, several partitioned
tables with nested and renamed columns and deletes of every kind), writes a keyset,
a hold and a job file, runs the job, and says what happened. The folder stays, so
that every other command can be tried on it.`,
		Example: "  expunge demo\n  expunge demo --dir /tmp/lake --rows 5M\n  expunge demo --only-data && expunge plan expunge-demo/job.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := configs.ParseCount(rows)
			if err != nil || n < 10_000 {
				return usagef("--rows %s: not a count from 10k", rows)
			}
			req.Rows = int64(n)
			return call(a, cmd, a.backend.Demo, req)
		},
	}
	f := c.Flags()
	f.StringVar(&req.Dir, "dir", "expunge-demo", "folder to make; replaced if an earlier demo made it")
	f.StringVar(&rows, "rows", "2M", "rows in all tables together, about")
	f.Uint64Var(&req.Seed, "seed", 1, "the same seed makes the same data")
	f.BoolVar(&req.Keep, "only-data", false, "make the lakehouse, but do not run the job")
	return c
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: "tool",
		Short:   "Print the version of this build",
		Example: "  expunge version --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := VersionResponse{Version: "unknown"}
			if a.backend.Version != nil {
				v = a.backend.Version()
			}
			return a.conclude(cmd, &v, nil)
		},
	}
}

func (a *app) file() *cobra.Command {
	c := &cobra.Command{
		Use:     "file",
		GroupID: "tool",
		Short:   "Erase from, check or look into one Parquet file",
		Long: `The rewriter as a tool of its own, for one Parquet file, without catalog or job.
Paths are local files or bucket URLs. A nested column is written a.list.element.b or
$.a[*].b. Keys come from a CSV with a header, whose first column is the key, or from
any keyset source with --keys-format.`,
		Example: `  expunge file inspect data.parquet
  expunge file erase data.parquet -o clean.parquet --column customer.id --keys keys.csv
  expunge file check clean.parquet --column customer.id --keys keys.csv`,
	}
	c.AddCommand(a.fileErase(), a.fileCheck(), a.fileInspect())
	return c
}

func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("name one Parquet file")
	}
	return nil
}

func completeParquet(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"parquet"}, cobra.ShellCompDirectiveFilterFileExt
}

// keyFlags are those that say what to look for and where.
func keyFlags(c *cobra.Command, req *FileRequest) {
	f := c.Flags()
	f.StringSliceVar(&req.Columns, "column", nil, "column that holds the key; repeated for a composite key")
	f.StringVar(&req.Keys, "keys", "", "source of the keys")
	f.StringVar(&req.KeysFormat, "keys-format", "", "csv, tsv, ndjson, parquet or lines (default: by the file's name)")
	f.StringSliceVar(&req.KeyTypes, "key-type", nil, "type of the key (default: from the column)")
}

func needKeys(req *FileRequest) error {
	if len(req.Columns) == 0 || req.Keys == "" {
		return usagef("name the key column with --column and the keys with --keys")
	}
	if len(req.KeyTypes) > 0 && len(req.KeyTypes) != len(req.Columns) {
		return usagef("--key-type is given once a --column")
	}
	return nil
}

func (a *app) fileErase() *cobra.Command {
	var req FileRequest
	c := &cobra.Command{
		Use:   "erase IN -o OUT",
		Short: "Write a copy of a Parquet file without the rows of the keys",
		Long: `Copies what no erased row touches byte for byte and rewrites the rest, so that the
cost follows the erased rows and not the file. Dictionaries, statistics, indexes and
bloom filters lose the erased values of all columns. The input stays as it is.`,
		Example:           "  expunge file erase in.parquet -o out.parquet --column user_id --keys keys.csv\n  expunge file erase s3://lake/a.parquet -o s3://lake/b.parquet --column '$.members[*].id' --keys keys.txt --keys-format lines",
		Args:              oneFile,
		ValidArgsFunction: completeParquet,
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Output == "" {
				return usagef("name the file to write with -o")
			}
			if req.Input = args[0]; req.Input == req.Output {
				return usagef("IN and OUT are the same file")
			}
			if err := needKeys(&req); err != nil {
				return err
			}
			return call(a, cmd, a.backend.FileErase, req)
		},
	}
	keyFlags(c, &req)
	f := c.Flags()
	f.StringVarP(&req.Output, "output", "o", "", "file to write")
	f.StringVar(&req.Engine, "engine", "", "surgical or reference (default: surgical where it can)")
	f.IntVar(&req.Workers, "workers", 0, "row groups at a time (default: one a CPU)")
	f.BoolVar(&req.NoCheck, "no-check", false, "do not decode each rewritten page again before it is written")
	f.BoolVar(&req.SHA256, "sha256", false, "tell the output's SHA-256; every byte then passes through the program")
	return c
}

func (a *app) fileCheck() *cobra.Command {
	var req FileRequest
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Prove that no key is stored anywhere in a Parquet file",
		Long: `Decodes every page and every metadata value with code that the rewriter does not
share, and looks for the keys in data, dictionaries, statistics, indexes, bloom
filters and the footer. Exit code 4 when one is found. No key is printed.`,
		Example:           "  expunge file check out.parquet --column user_id --keys keys.csv",
		Args:              oneFile,
		ValidArgsFunction: completeParquet,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Input = args[0]
			if err := needKeys(&req); err != nil {
				return err
			}
			return call(a, cmd, a.backend.FileCheck, req)
		},
	}
	keyFlags(c, &req)
	return c
}

func (a *app) fileInspect() *cobra.Command {
	var req FileRequest
	c := &cobra.Command{
		Use:               "inspect FILE",
		Short:             "Show row groups, column chunks, pages, encodings and sizes",
		Example:           "  expunge file inspect data.parquet\n  expunge file inspect data.parquet --pages --column user_id",
		Args:              oneFile,
		ValidArgsFunction: completeParquet,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Input = args[0]
			return call(a, cmd, a.backend.FileInspect, req)
		},
	}
	c.Flags().BoolVar(&req.Pages, "pages", false, "list every page")
	c.Flags().StringSliceVar(&req.Columns, "column", nil, "only this column; may be repeated")
	return c
}
