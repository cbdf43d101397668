package review

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
)

// logHealth reads the whole log anew when its checkpoint has changed, in the
// background and not more often than logPause. It keeps the first checkpoint
// that it saw: what is removed while the server runs, it notices.
type logHealth struct {
	s *Server

	mu      sync.Mutex
	running bool
	now     logState
	kept    *manifests.Checkpoint
	seen    string // the checkpoint file that was read last
	looked  time.Time
}

// logPause is the least time between two readings of the log, logLook between
// two looks at its checkpoint.
const (
	logPause = 5 * time.Minute
	logLook  = 5 * time.Second
)

// logState is what the last reading established.
type logState struct {
	Present  bool // there is a checkpoint
	Origin   string
	Size     int64 // by the checkpoint, whether or not anything was checked
	Root     string
	Checked  time.Time // zero = not yet, or there is nobody to trust
	Entries  int64
	Tiles    int64
	Pending  int64
	Since    int64 // the size that the server saw first
	Missing  int   // manifests of the log that the bucket does not have
	Unlogged int   // manifests of the bucket that the log does not have
	Broken   bool
	Problem  string
	NoTrust  bool
	Reading  bool
}

// state says how the log stands, and starts a reading where one is due.
func (l *logHealth) state(ctx context.Context) logState {
	now := clock.Now(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running || !l.looked.IsZero() && now.Sub(l.looked) < logLook {
		return l.now
	}
	l.looked = now
	raw, err := storage.ReadAll(ctx, l.s.store, l.s.root+"log/checkpoint")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if l.kept != nil {
			l.now.Broken, l.now.Problem = true, "the checkpoint is gone"
		}
		return l.now
	case err != nil:
		return l.now
	}
	l.now.Present = true
	l.now.Origin, l.now.Size, l.now.Root = parseCheckpoint(string(raw))
	if l.s.cfg.Trust == nil {
		l.now.NoTrust = true
		return l.now
	}
	if string(raw) == l.seen || !l.now.Checked.IsZero() && now.Sub(l.now.Checked) < logPause {
		return l.now
	}
	l.running, l.now.Reading = true, true
	go l.read(context.WithoutCancel(ctx), string(raw))
	return l.now
}

// parseCheckpoint reads a checkpoint's text without believing it.
func parseCheckpoint(raw string) (origin string, size int64, root string) {
	lines := strings.SplitN(raw, "\n", 4)
	if len(lines) < 4 {
		return "", 0, ""
	}
	for _, c := range lines[1] {
		if c < '0' || c > '9' || size > 1<<50 {
			return lines[0], 0, ""
		}
		size = size*10 + int64(c-'0')
	}
	return lines[0], size, lines[2]
}

func (l *logHealth) read(ctx context.Context, checkpoint string) {
	l.mu.Lock()
	next, kept := l.now, l.kept
	l.mu.Unlock()
	rep, logged, err := l.verify(ctx, next.Origin, kept)
	next.Checked, next.Reading, next.Broken, next.Problem, next.NoTrust = clock.Now(ctx), false, false, "", false
	switch {
	case errors.Is(err, errNoTrust):
		next.NoTrust, next.Checked = true, time.Time{}
	case err != nil:
		next.Broken, next.Problem = true, logProblem(err)
		l.s.cfg.Log.WarnContext(ctx, "log does not verify", "error", err)
	default:
		next.Entries, next.Tiles, next.Pending = rep.Checkpoint.Size, rep.Tiles, rep.Pending
		if kept == nil {
			kept = &rep.Checkpoint
		}
		next.Since = kept.Size
		next.Missing, next.Unlogged = l.compare(ctx, logged)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now, l.kept, l.seen, l.running = next, kept, checkpoint, false
}

var errNoTrust = errors.New("nobody to trust")

func (l *logHealth) verify(ctx context.Context, origin string, kept *manifests.Checkpoint) (*manifests.LogReport, map[string]bool, error) {
	v, err := l.s.index.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(v.Runs) == 0 {
		return nil, nil, errNoTrust
	}
	trust, err := l.s.cfg.Trust(ctx, v.Runs[0].Run)
	if err != nil {
		return nil, nil, errNoTrust
	}
	logged := map[string]bool{}
	rep, err := manifests.VerifyLog(ctx, logReader{l.s.store, l.s.root + "log/"}, trust, origin, kept,
		func(_ int64, id, _ string) error { logged[id] = true; return nil })
	return rep, logged, err
}

// compare counts manifests that only one of log and bucket has.
func (l *logHealth) compare(ctx context.Context, logged map[string]bool) (missing, unlogged int) {
	v, err := l.s.index.get(ctx)
	if err != nil || v.Unread > 0 {
		return 0, 0
	}
	for id := range logged {
		if v.Manifests[id] == nil {
			missing++
		}
	}
	for id := range v.Manifests {
		if !logged[id] {
			unlogged++
		}
	}
	return missing, unlogged
}

// logProblem names what is wrong in the server's own words.
func logProblem(err error) string {
	for _, e := range []error{manifests.ErrForked, manifests.ErrTruncated, manifests.ErrReplayed, manifests.ErrSignature} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "it cannot be read or is not signed by a trusted key"
}

func (s *Server) log(w http.ResponseWriter, r *http.Request) error {
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	return s.show(w, r, "log", "Log", v, s.logs.state(r.Context()))
}
