// Package process runs the programs that a benchmark compares, each in a process
// of its own, and says what it took.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Used is what one process took. Seconds; bytes.
type Used struct {
	Wall float64 `json:"wall"`
	CPU  float64 `json:"cpu"`
	RSS  int64   `json:"rss"`
}

// Run runs a command to its end and decodes the last line that it prints, if
// answer is not nil. An error quotes the last line of its standard error.
func Run(ctx context.Context, answer any, name string, args ...string) (Used, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start).Seconds()
	if err != nil {
		return Used{}, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, lastLine(errs.Bytes()))
	}
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if answer != nil {
		if err := json.Unmarshal(lastLine(out.Bytes()), answer); err != nil {
			return Used{}, fmt.Errorf("%s %s: answer: %w", filepath.Base(name), args[0], err)
		}
	}
	return Used{Wall: wall, CPU: float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, RSS: u.Maxrss << 10}, nil
}

func lastLine(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[bytes.LastIndexByte(b, '\n')+1:]
}
