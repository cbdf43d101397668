package jobs

import (
	"context"
	"iter"
)

// Shard is a reference to a bounded group of tasks of one target. It is what
// engines pass around: no path, no key, a few bytes.
type Shard struct {
	Target string `json:"target"` // the target's name in the job
	Slot   int    `json:"slot"`   // the target's index in the plan
	Gen    int    `json:"gen"`    // which planning of the target, from 0
	Index  int    `json:"index"`  // the shard's index within the target
	Tasks  int    `json:"tasks"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
}

// ShardResult is a reference to the results of one shard, with counters.
type ShardResult struct {
	Slot      int    `json:"slot"`
	Gen       int    `json:"gen"`
	Index     int    `json:"index"`
	Ref       string `json:"ref"` // sealed file in the run's folder, one warehouse.Result a line
	Files     int64  `json:"files"`
	Clean     int64  `json:"clean"`
	Rewritten int64  `json:"rewritten"`
	Dropped   int64  `json:"dropped"`
	Failed    int64  `json:"failed"`
	LeftAlone int64  `json:"left_alone"`
	Rows      int64  `json:"rows"`
	Erased    int64  `json:"erased"`
	Changed   int64  `json:"changed,omitempty"`
	BytesRead int64  `json:"bytes_read"`
	Copied    int64  `json:"copied"`
	Encoded   int64  `json:"encoded"`
}

// ShardFunc runs one shard and makes its results durable before it returns.
// An error means that the shard did not finish and may be run again; a file
// that cannot be processed is a result, not an error.
type ShardFunc func(ctx context.Context, s Shard) (ShardResult, error)

// Engine runs shards. It may run them in any order and more than once; done is
// called once a shard, from one goroutine at a time.
type Engine interface {
	Run(ctx context.Context, shards iter.Seq2[Shard, error], run ShardFunc, done func(ShardResult) error) error
}
