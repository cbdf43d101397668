package state

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// Event is one journal entry. Data must be free of keys only as far as the
// run's other sealed files are: the journal is sealed too.
type Event struct {
	Seq  int64           `json:"seq"` // 1, 2, 3, ...
	Time time.Time       `json:"time"`
	Step string          `json:"step"`
	Key  string          `json:"key,omitempty"`
	Data json.RawMessage `json:"data,omitempty"`
}

// NewEvent makes an event with v as its data.
func NewEvent(step, key string, v any) (Event, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Event{}, fmt.Errorf("encode event data: %w", err)
	}
	return Event{Step: step, Key: key, Data: data}, nil
}

// entry is what an event's object holds.
type entry struct {
	Event
	Writer string `json:"writer"` // which Journal value wrote it
	ID     string `json:"id"`     // which Append
	Prev   string `json:"prev"`   // digest of the entry before, "" for the first
}

// Journal is an append-only record of a run: one sealed object an event,
// numbered, each naming the digest of the one before. An object is written
// only if its number is free, so a second writer is noticed by whoever comes
// second, and never mixes its events in.
type Journal struct {
	r      *Run
	dir    string
	writer string

	mu   sync.Mutex
	seq  int64  // of the last entry
	prev string // its digest
	err  error  // ErrConflict, for good
}

// Journal opens the run's journal of that name, at its end.
func (r *Run) Journal(ctx context.Context, name string) (*Journal, error) {
	if r.closed != nil {
		return nil, fmt.Errorf("open journal: %w", r.closed)
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{r: r, dir: "journal/" + name + "/", writer: randomHex()}
	for seq, err := range j.numbers(ctx) {
		if err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
		j.seq = seq
	}
	if j.seq > 0 {
		_, digest, err := j.read(ctx, j.seq)
		if err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
		j.prev = digest
	}
	return j, nil
}

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

func (j *Journal) name(seq int64) string { return fmt.Sprintf("%s%012d", j.dir, seq) }

// numbers yields 1, 2, 3, ... as far as entries are stored; a gap is damage.
func (j *Journal) numbers(ctx context.Context) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		var last int64
		for name, err := range j.r.List(ctx, j.dir) {
			if err != nil {
				yield(0, err)
				return
			}
			seq, err := strconv.ParseInt(strings.TrimPrefix(name, j.dir), 10, 64)
			if err != nil || seq != last+1 || name != j.name(seq) {
				yield(0, fmt.Errorf("%w: entry after %d is missing or misnamed", ErrCorrupt, last))
				return
			}
			last = seq
			if !yield(seq, nil) {
				return
			}
		}
	}
}

func (j *Journal) read(ctx context.Context, seq int64) (entry, string, error) {
	var e entry
	data, err := j.r.ReadBytes(ctx, j.name(seq))
	if err != nil {
		return e, "", err
	}
	if err := decodeEntry(data, seq, &e); err != nil {
		return e, "", fmt.Errorf("entry %d: %w", seq, err)
	}
	return e, digestOf(data), nil
}

// decodeEntry parses an entry and checks that it is the one of that number.
func decodeEntry(data []byte, seq int64, e *entry) error {
	if json.Unmarshal(data, e) != nil || e.Seq != seq || (e.Prev == "") != (seq == 1) {
		return ErrCorrupt
	}
	return nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Len is the number of the last event.
func (j *Journal) Len() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// Append makes the event durable and returns it with its number and time.
// After an error the event may be in the journal all the same if its answer
// was lost; it is then in order, and a later Append comes behind it. ErrConflict
// means that another process writes this journal: nothing more is written.
func (j *Journal) Append(ctx context.Context, ev Event) (Event, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := entry{Event: ev, Writer: j.writer, ID: randomHex()}
	e.Time = clock.Now(ctx)
	for {
		if j.err != nil {
			return ev, fmt.Errorf("append to journal: %w", j.err)
		}
		e.Seq, e.Prev = j.seq+1, j.prev
		data, err := json.Marshal(e)
		if err != nil {
			return ev, fmt.Errorf("append to journal: %w", err)
		}
		err = j.put(ctx, e.Seq, data)
		if err == nil {
			j.seq, j.prev = e.Seq, digestOf(data)
			return e.Event, nil
		}
		mine, settleErr := j.settle(ctx, e, err)
		if settleErr != nil {
			return ev, fmt.Errorf("append to journal: %w", settleErr)
		}
		if mine {
			return e.Event, nil
		}
	}
}

// settle finds out what stands at the number of an entry whose write failed.
// It returns true if it is that entry, false if it is one of this writer's
// earlier ones whose answer was lost, so that the next number is to be tried.
func (j *Journal) settle(ctx context.Context, e entry, cause error) (bool, error) {
	if !errors.Is(cause, storage.ErrExists) && !errors.Is(cause, storage.ErrUnknownOutcome) && !storage.IsTransient(cause) {
		return false, cause
	}
	have, digest, err := j.read(ctx, e.Seq)
	if err != nil {
		return false, cause // not there, or unreadable for now
	}
	if have.Writer != j.writer {
		j.err = ErrConflict
		return false, ErrConflict
	}
	j.seq, j.prev = have.Seq, digest
	return have.ID == e.ID, nil
}

func (j *Journal) put(ctx context.Context, seq int64, data []byte) error {
	f, err := j.r.Create(ctx, j.name(seq))
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Abort()
		return err
	}
	return f.Close()
}

// Replay yields every event in order and checks the chain of digests.
func (j *Journal) Replay(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		prev := ""
		for seq, err := range j.numbers(ctx) {
			var e entry
			var digest string
			if err == nil {
				e, digest, err = j.read(ctx, seq)
			}
			if err == nil && e.Prev != prev {
				err = fmt.Errorf("entry %d: %w: it does not follow the one before", seq, ErrCorrupt)
			}
			if err != nil {
				yield(Event{}, fmt.Errorf("replay journal: %w", err))
				return
			}
			prev = digest
			if !yield(e.Event, nil) {
				return
			}
		}
	}
}
