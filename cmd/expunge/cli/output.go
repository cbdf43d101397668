package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/expunge/expunge/configs"
)

// output writes results: words, or one JSON object a line.
type output struct {
	mu   sync.Mutex
	w    io.Writer
	json bool
}

// texter is a response that has a form for people.
type texter interface{ text(p *printer) }

// liner is a response with items that JSON writes as lines of their own.
type liner interface{ lines() iter.Seq2[string, any] }

// emit writes v as one JSON line with the type in front.
func (o *output) emit(kind string, v any) {
	body, err := json.Marshal(v)
	if err != nil || len(body) < 2 || body[0] != '{' {
		body = []byte("{}")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"type":%q`, kind)
	if len(body) > 2 {
		b.WriteByte(',')
	}
	b.Write(body[1:])
	b.WriteByte('\n')
	o.mu.Lock()
	defer o.mu.Unlock()
	// A reader that went away is no reason to stop an erasure half way.
	_, _ = o.w.Write(b.Bytes())
}

// ending is what every summary line holds besides the response.
type ending struct {
	Command string   `json:"command"`
	Exit    int      `json:"exit"`
	Error   string   `json:"error,omitempty"`
	Errors  []string `json:"errors,omitempty"` // all of them, for a job file
	Hint    string   `json:"hint,omitempty"`
}

// summary writes the last JSON line.
func (o *output) summary(e ending, resp any) {
	if l, ok := resp.(liner); ok {
		for kind, v := range l.lines() {
			o.emit(kind, v)
		}
	}
	head, err := json.Marshal(e)
	if err != nil {
		head = []byte("{}")
	}
	merged := head
	if resp != nil {
		if body, err := json.Marshal(resp); err == nil && len(body) > 2 {
			merged = append(append(head[:len(head)-1:len(head)-1], ','), body[1:]...)
		}
	}
	o.emit("summary", json.RawMessage(merged))
}

// result prints a response without an error.
func (o *output) result(command string, resp any, code int) {
	if o.json {
		o.summary(ending{Command: command, Exit: code}, resp)
		return
	}
	o.words(resp)
}

// words prints a response for people.
func (o *output) words(resp any) {
	if t, ok := resp.(texter); ok {
		p := &printer{}
		t.text(p)
		o.mu.Lock()
		defer o.mu.Unlock()
		_, _ = o.w.Write(p.Bytes())
	}
}

// fail prints an error, after what the response says of how far it got.
func (a *app) fail(command string, resp any, code int, err error, hint string) {
	if code == ExitInterrupted && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	all := messages(err)
	if a.json {
		e := ending{Command: command, Exit: code, Error: all[0], Hint: hint}
		if len(all) > 1 {
			e.Errors = all
		}
		a.out.json = true
		a.out.summary(e, resp)
		return
	}
	a.out.words(resp)
	for _, m := range all {
		fmt.Fprintln(a.io.Err, "error:", m)
	}
	if hint != "" {
		fmt.Fprintln(a.io.Err, "hint:", hint)
	}
}

// messages returns the lines to print of an error: each problem of a job file, or the error.
func messages(err error) []string {
	var many configs.Errors
	if errors.As(err, &many) && len(many) > 0 {
		out := make([]string, len(many))
		for i, e := range many {
			out[i] = e.Error()
		}
		return out
	}
	return []string{err.Error()}
}
