package keyset

import "time"

// Request is one erasure request that named keys of a set.
type Request struct {
	ID       string    `json:"id,omitempty"`      // "" when sources give dates only
	Received time.Time `json:"received,omitzero"` // the earliest date seen for it
	Keys     int       `json:"keys"`              // keys of the set that it names
	Held     int       `json:"held"`              // keys that it named and a hold took out
}

// Requests returns the requests that named keys, ordered by id and date.
func (s *Set) Requests() []Request { return nil }

// RequestsOf returns indexes into Requests: who asked for the canonical key.
func (s *Set) RequestsOf(canonical []byte) []int { return nil }
