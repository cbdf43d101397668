package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/expunge/expunge/bench/process"
)

// result is what a case gave. Everything is measured; ratios are made from it.
type result struct {
	Case   string            `json:"case"`
	Title  string            `json:"title"`
	Kind   kind              `json:"kind"`
	Goal   goal              `json:"goal"`
	Source int64             `json:"source_bytes"`
	Rows   int64             `json:"rows,omitempty"` // of a scan
	Peers  map[string][]used `json:"peers"`          // by round
	Sizes  map[string]int64  `json:"output_bytes,omitempty"`

	Rewritten rewritten `json:"rewritten,omitzero"`
	Scanned   scanned   `json:"scanned,omitzero"`
	Checked   bool      `json:"checked"`          // the answers were DuckDB's
	Digest    string    `json:"digest,omitempty"` // of the survivors, all columns in order
}

func (r *result) add(peer string, u used) {
	if r.Peers == nil {
		r.Peers, r.Sizes = map[string][]used{}, map[string]int64{}
	}
	r.Peers[peer] = append(r.Peers[peer], u)
}

// share is the percentage of pages that were touched.
func (r *result) share() float64 {
	return 100 * float64(r.Rewritten.Touched) / float64(max(1, r.Rewritten.Pages))
}

func wall(u used) float64 { return u.Wall }
func cpu(u used) float64  { return u.CPU }
func rss(u used) float64  { return float64(u.RSS) }

// mid is the median of a figure of a peer.
func (r *result) mid(peer string, of func(used) float64) float64 {
	var v []float64
	for _, u := range r.Peers[peer] {
		v = append(v, of(u))
	}
	return process.Median(v)
}

// ratio is the median, over the rounds, of how many times a's figure is b's.
func (r *result) ratio(a, b string, of func(used) float64) float64 {
	var v []float64
	for i := range min(len(r.Peers[a]), len(r.Peers[b])) {
		v = append(v, of(r.Peers[a][i])/of(r.Peers[b][i]))
	}
	return process.Median(v)
}

// results is the JSON file.
type results struct {
	Machine string    `json:"machine"`
	Cases   []*result `json:"cases"`
}

func readResults(path string) (*results, error) {
	all := &results{}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(b, all)
}

// put replaces a case's result and keeps the cases' order.
func (a *results) put(r *result) {
	a.Cases = append(slices.DeleteFunc(a.Cases, func(x *result) bool { return x.Case == r.Case }), r)
	order := map[string]int{}
	for i, c := range cases() {
		order[c.Name] = i
	}
	slices.SortFunc(a.Cases, func(x, y *result) int { return order[x.Case] - order[y.Case] })
}

func (a *results) of(k kind) (out []*result) {
	for _, r := range a.Cases {
		if r.Kind == k {
			out = append(out, r)
		}
	}
	return out
}

func (a *results) write(path string) error {
	b, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
