package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Digest identifies what the job says, defaults included: SHA-256 in hex over a
// canonical JSON form. Layout, comments and the values of secrets do not count,
// so a rotated token leaves plans and approvals valid.
func (j *Job) Digest() (string, error) {
	// Struct fields keep their order and encoding/json sorts map keys: one form a job.
	body, err := json.Marshal(j)
	if err != nil {
		return "", fmt.Errorf("digest job: %w", err)
	}
	h := sha256.New()
	h.Write([]byte("expunge job v1\n"))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// CheckDeadline refuses a run whose purge would come after the deadline of its
// earliest request: replaced files are kept for the grace, so what is committed
// now is gone at now + grace. A zero earliest means no request dates are known.
func (j *Job) CheckDeadline(now, earliest time.Time) error {
	if j.Policy.Deadline == 0 || earliest.IsZero() {
		return nil
	}
	due := earliest.Add(j.Policy.Deadline.Duration())
	gone := now.Add(j.Grace.Duration())
	if gone.After(due) {
		return fmt.Errorf("%w: erased rows would be gone by %s, the earliest request is due on %s (grace %s, deadline %s)",
			ErrDeadline, gone.Format(time.DateOnly), due.Format(time.DateOnly), j.Grace, j.Policy.Deadline)
	}
	return nil
}
