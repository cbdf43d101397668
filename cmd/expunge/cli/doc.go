// Package cli is the command line: flags in, a Backend call, words or JSON out.
//
// Commands are thin. Each parses its flags into a request, calls one function
// of Backend, and prints the response; nothing here reads a table. What belongs
// to the terminal lives here and only here: exit codes (exit.go), hints, tables
// and progress (render.go, progress.go), questions before destructive work
// (confirm.go), and signals. With --json standard output carries one JSON object
// a line, of which the last has "type":"summary".
package cli
