package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"expunge": func() {
			os.Exit(Main(context.Background(), os.Args[1:], Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, fake(os.Getenv("FAKE"))))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       os.Getenv("UPDATE_GOLDEN") != "",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"waitfor": waitFor,
			"jsonl":   jsonLines,
		},
	})
}

// exits CODE ARGS… runs expunge in a process of its own and checks its exit code.
// Its output is the script's stdout and stderr.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("expunge", args[1:]...)
	code := 0
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		code = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// waitfor FILE waits until a background command has made the file.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	for range 500 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s was not made", args[0])
}

// jsonl checks that standard output is one JSON object a line, the last of type summary, and the given key=value pairs of the last.
func jsonLines(ts *testscript.TestScript, neg bool, args []string) {
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
	var last map[string]any
	for i, l := range lines {
		var v map[string]any
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			ts.Fatalf("line %d is no JSON object: %s", i+1, l)
		}
		kind, _ := v["type"].(string)
		if kind == "" || (kind == "summary") != (i == len(lines)-1) {
			ts.Fatalf("line %d of %d has type %q", i+1, len(lines), kind)
		}
		last = v
	}
	for _, pair := range args {
		k, want, _ := strings.Cut(pair, "=")
		if got := fmt.Sprint(last[k]); got != want {
			ts.Fatalf("%s is %s, want %s", k, got, want)
		}
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	a := &app{io: Stdio{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, out: &output{}}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" || c.Parent() != nil && c.Parent().Name() == "completion" {
			return
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: Short %q", c.CommandPath(), c.Short)
		}
		if !strings.Contains(c.Example, "expunge ") {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.root())
}

func TestIssuedCommandsExist(t *testing.T) {
	a := &app{out: &output{}}
	root := a.root()
	for _, name := range []string{"init", "check", "plan", "run", "resume", "runs", "status", "stop", "purge", "restore", "verify", "scheduler", "manifest show", "manifest verify", "manifest report", "manifest seal", "approve", "audit", "requests", "certificate issue", "certificate verify", "log verify", "log checkpoint", "serve", "demo", "version", "keygen", "file erase", "file check", "file inspect"} {
		if c, _, err := root.Find(strings.Fields(name)); err != nil || c.CommandPath() != "expunge "+name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExamplesInHelpParse(t *testing.T) {
	a := &app{out: &output{}}
	root := a.root()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, line := range strings.Split(c.Example, "\n") {
			line = strings.TrimSpace(line)
			for _, stop := range []string{" | ", " > ", " >> ", " && "} {
				line, _, _ = strings.Cut(line, stop)
			}
			words := strings.Fields(strings.ReplaceAll(line, "'", ""))
			if len(words) == 0 || words[0] != "expunge" {
				t.Errorf("%s: example %q", c.CommandPath(), line)
				continue
			}
			found, rest, err := root.Find(words[1:])
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "completion" && sub.Name() != "help" {
				walk(sub)
			}
		}
	}
	walk(root)
}

func TestTheExitCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []int
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(doc), -1) {
		n, _ := strconv.Atoi(m[1])
		documented = append(documented, n)
	}
	want := []int{ExitOK, ExitError, ExitPartial, ExitVerify, ExitLimit, ExitLease, ExitUsage, ExitInterrupted}
	if fmt.Sprint(documented) != fmt.Sprint(want) {
		t.Errorf("docs/exit-codes.md lists %v, the program has %v", documented, want)
	}
}

// terminal runs a command line as a person at a terminal would, who types answer.
func terminal(t *testing.T, answer, mode string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(context.Background(), append(args, "--no-progress"), Stdio{In: strings.NewReader(answer), Out: &o, Err: &e, InTTY: true, OutTTY: true, ErrTTY: true}, fake(mode))
	return code, o.String(), e.String()
}

func TestDestructiveCommandsAskAtATerminal(t *testing.T) {
	job := writeJob(t)
	for _, args := range [][]string{{"run", job}, {"purge", "--due"}, {"purge", "r1"}, {"restore", "r1"}} {
		name := strings.Join(args[:1], " ")
		code, out, errs := terminal(t, "n\n", "", args...)
		if code != ExitError || !strings.Contains(errs, "[y/N]") || !strings.Contains(errs, "not confirmed") || strings.Contains(out, "did it") {
			t.Errorf("%s, no: code %d, %s %s", name, code, out, errs)
		}
		if code, _, errs = terminal(t, "", "", args...); code != ExitError {
			t.Errorf("%s, end of input: code %d, %s", name, code, errs)
		}
		if code, _, errs = terminal(t, "yes\n", "", args...); code != ExitOK || !strings.Contains(errs, "[y/N]") {
			t.Errorf("%s, yes: code %d, %s", name, code, errs)
		}
		if code, _, errs = terminal(t, "", "", append(args, "--yes")...); code != ExitOK || strings.Contains(errs, "[y/N]") {
			t.Errorf("%s --yes: code %d, %s", name, code, errs)
		}
	}
	for _, args := range [][]string{{"run", job, "--dry-run"}, {"purge", "--due", "--dry-run"}, {"restore", "r1", "--dry-run"}, {"plan", job}, {"verify", "r1"}} {
		if code, _, errs := terminal(t, "", "", args...); code != ExitOK || strings.Contains(errs, "[y/N]") {
			t.Errorf("%v asks: code %d, %s", args, code, errs)
		}
	}
}

func TestSIGTERMEndsLikeSIGINT(t *testing.T) {
	t.Chdir(t.TempDir())
	job := writeJob(t)
	done := make(chan int, 1)
	var out bytes.Buffer
	go func() {
		done <- Main(context.Background(), []string{"run", job, "--json"}, Stdio{In: strings.NewReader(""), Out: &out, Err: &out}, fake("hang"))
	}()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat("started"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the run did not start")
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != ExitInterrupted || !strings.Contains(out.String(), `"exit":130`) {
		t.Errorf("code %d: %s", code, out.String())
	}
}

func TestLiteralPropertiesAreNotEchoed(t *testing.T) {
	// --set may carry a literal token: it must not be echoed by anything.
	var o, e bytes.Buffer
	for _, args := range [][]string{{"init", "--set", "token=hunter2-canary", "--set", "type=rest", "-vv"}, {"init", "--set", "hunter2-canary"}, {"init", "--set", "token=${hunter2-canary}"}} {
		Main(context.Background(), args, Stdio{In: strings.NewReader(""), Out: &o, Err: &e}, fake(""))
		Main(context.Background(), append(args, "--json"), Stdio{In: strings.NewReader(""), Out: &o, Err: &e}, fake(""))
	}
	if s := o.String() + e.String(); strings.Contains(s, "canary") || s == "" {
		t.Errorf("echoed: %s", s)
	}
}

func TestTheJSONLinesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/json-lines.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("render.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{"summary", "step", "progress", "note", "warning"}
	for _, m := range regexp.MustCompile(`each\("(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		kinds = append(kinds, m[1])
	}
	if len(kinds) < 10 {
		t.Fatalf("found only %v", kinds)
	}
	for _, k := range kinds {
		if !strings.Contains(string(doc), "| `"+k+"` |") {
			t.Errorf("docs/json-lines.md does not describe %s", k)
		}
	}
}
