package configs

import (
	"fmt"
	"strings"
	"time"
)

// Approval makes a job run approved plans only: expunge plan, then expunge
// approve by others than the executor, then expunge run --plan.
type Approval struct {
	// Keys are files with the approvers' public keys; none = the keys of the
	// trust file that have the role approver.
	Keys  Strings  `yaml:"keys" json:"keys,omitempty"`
	Count int      `yaml:"count" json:"count"` // approvals of different keys that a run needs
	Valid Duration `yaml:"valid" json:"valid"` // how long an approval holds
}

// Secrets says how the secrets of runs are kept.
type Secrets struct {
	Location string `yaml:"location" json:"location,omitempty"` // a folder or bucket URL of their own
	// Wrap are age recipients (age1…), or one key of a KMS (awskms, gcpkms, hashivault).
	Wrap     Strings `yaml:"wrap" json:"wrap,omitempty"`
	Identity string  `yaml:"identity" json:"identity,omitempty"` // the age identity: file:/path or env:NAME
}

// Log names the log of manifests and who watches it.
type Log struct {
	Origin    string    `yaml:"origin" json:"origin,omitempty"` // of checkpoints; fixed by the first run
	Witnesses []Witness `yaml:"witnesses" json:"witnesses,omitempty"`
}

// Witness cosigns checkpoints (C2SP tlog-witness).
type Witness struct {
	URL string `yaml:"url" json:"url"`
	Key string `yaml:"key" json:"key"` // its cosignature/v1 verifier key: name+hash+base64
}

// Audit keeps the keys of past runs, encrypted, so that data that comes back
// is found.
type Audit struct {
	Keep     Duration  `yaml:"keep" json:"keep"` // after a run has ended
	Schedule *Schedule `yaml:"schedule" json:"schedule,omitempty"`
}

// completeEvidence fills the defaults of what is there.
func (j *Job) completeEvidence() {
	if a := j.Approval; a != nil {
		if a.Count == 0 {
			a.Count = 1
		}
		if a.Valid == 0 {
			a.Valid = Duration(7 * 24 * time.Hour)
		}
	}
	if j.Audit != nil && j.Audit.Schedule != nil {
		s := j.Audit.Schedule
		s.Timezone, s.Missed, s.Overlap = orDefault(s.Timezone, "UTC"), orDefault(s.Missed, "once"), orDefault(s.Overlap, "skip")
	}
}

// resolveEvidence makes relative paths absolute.
func (j *Job) resolveEvidence(local, ref func(*string)) {
	if a := j.Approval; a != nil {
		for i := range a.Keys {
			local(&a.Keys[i])
		}
	}
	if s := j.Secrets; s != nil {
		local(&s.Location)
		ref(&s.Identity)
	}
}

// evidence checks what approvals, secrets, log and audit say.
func (c *checker) evidence() {
	j := c.job
	if a := j.Approval; a != nil {
		if len(a.Keys) == 0 && j.Signing.Trust == "" {
			c.failf("approval", "name the approvers' public keys (keys), or a trust file (signing.trust) that lists them")
		}
		if a.Count < 1 || len(a.Keys) > 0 && a.Count > len(a.Keys) {
			c.failf("approval.count", "%d: not from 1 to the number of approvers", a.Count)
		}
		if a.Valid < 0 {
			c.failf("approval.valid", "%s: below 0", a.Valid)
		}
	}
	c.secrets()
	if l := j.Log; l != nil {
		if strings.ContainsAny(l.Origin, "+ \t\r\n") {
			c.failf("log.origin", "%s: an origin has no space and no +", quote(l.Origin))
		}
		for i, w := range l.Witnesses {
			field := fmt.Sprintf("log.witnesses[%d]", i)
			if !strings.HasPrefix(w.URL, "https://") && !strings.HasPrefix(w.URL, "http://") {
				c.failf(join(field, "url"), "%s: not the URL of a witness", quote(w.URL))
			}
			if strings.Count(w.Key, "+") < 2 {
				c.failf(join(field, "key"), "not a verifier key of the form name+hash+base64")
			}
		}
	}
	if a := j.Audit; a != nil {
		if a.Keep <= 0 {
			c.failf("audit.keep", "say how long the keys of past runs are kept for audits, such as 365d")
		}
		c.schedule("audit.schedule", a.Schedule)
	}
}

func (c *checker) secrets() {
	s := c.job.Secrets
	if s == nil {
		return
	}
	kms := 0
	for i, w := range s.Wrap {
		switch {
		case strings.HasPrefix(w, "age1"):
		case wrapForm.MatchString(w):
			kms++
		default:
			c.failf(fmt.Sprintf("secrets.wrap[%d]", i), "not an age recipient (age1…) or a URL of awskms, gcpkms or hashivault")
		}
	}
	if kms > 0 && len(s.Wrap) > 1 {
		c.failf("secrets.wrap", "one key of a KMS, or age recipients, not both")
	}
	if s.Identity != "" && !strings.HasPrefix(s.Identity, "file:") && !strings.HasPrefix(s.Identity, "env:") {
		c.failf("secrets.identity", "not a reference: file:/path or env:NAME") // it may be the identity itself
	}
}
