// Command expunge erases people's data from lakehouses and object storage, and
// proves it. See expunge --help.
package main

import (
	"context"
	"os"

	"golang.org/x/term"

	"github.com/expunge/expunge/cmd/expunge/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Stdio{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTTY:  term.IsTerminal(int(os.Stdin.Fd())),
		OutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTTY: term.IsTerminal(int(os.Stderr.Fd())),
	}, backend()))
}
