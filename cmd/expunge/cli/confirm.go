package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

// ask returns a function that shows what is about to happen and wants a yes,
// or nil where nobody is asked: --yes was given, or no person sits at the
// terminal (cron, a container), where the command itself is the decision.
func ask[R any](a *app, yes bool, question func(*R) string) func(context.Context, *R) error {
	if yes || !a.io.InTTY || !a.io.ErrTTY {
		return nil
	}
	return func(ctx context.Context, r *R) error {
		if t, ok := any(r).(texter); ok {
			p := &printer{}
			t.text(p)
			fmt.Fprintf(a.io.Err, "\n%s\n", p.String())
		}
		fmt.Fprintf(a.io.Err, "%s [y/N] ", question(r))
		answer := make(chan string, 1)
		go func() {
			line, _ := bufio.NewReader(a.io.In).ReadString('\n')
			answer <- line
		}()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case line := <-answer:
			switch strings.ToLower(strings.TrimSpace(line)) {
			case "y", "yes":
				return nil
			}
			return errDeclined
		}
	}
}
