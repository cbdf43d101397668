package verifier

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// redactionRule says what a redacted column has to hold in matching rows.
type redactionRule struct {
	null  bool
	value string
}

// redaction says whether the action changes a column in matching rows, and to what.
func (c *comparison) redaction(info fileColumn) (redactionRule, bool) {
	if c.r.Action.Kind != "redact" {
		return redactionRule{}, false
	}
	path := pathOf(info)
	under := func(p string) bool { return path == p || strings.HasPrefix(path, p+".") }
	if slices.ContainsFunc(c.r.Action.Null, under) {
		return redactionRule{null: true}, true
	}
	for p, v := range c.r.Action.Redact {
		if under(p) {
			return redactionRule{value: v}, true
		}
	}
	return redactionRule{}, false
}

// redactedColumn compares a redacted leaf: as before in rows that do not match,
// and the declared null or constant in those that do. Only flat columns can be
// redacted to a constant.
func (c *comparison) redactedColumn(info fileColumn, j int, rule redactionRule) error {
	a, b := newPairs(c.old.leaf(c.ctx, info.index)), newPairs(c.new.leaf(c.ctx, j))
	defer a.l.close()
	defer b.l.close()
	if a.l.desc.MaxRepetitionLevel() > 0 {
		c.differ("column %s: a redacted list cannot be compared", pathOf(info))
		return nil
	}
	for row := range c.rep.RowsOld {
		x, ok, err := a.next()
		if err != nil || !ok {
			return joinOK(err, ok)
		}
		if c.gone.Contains(uint64(row)) {
			continue
		}
		y, ok, err := b.next()
		if err != nil || !ok {
			return joinOK(err, ok)
		}
		good := string(x) == string(y) && (x == nil) == (y == nil)
		if c.hits.Contains(uint64(row)) {
			good = redactedTo(y, x, rule, a.l.desc)
		}
		if !good {
			c.differ("column %s: row %d of the old file is not what the redaction makes of it", pathOf(info), row)
			return nil
		}
	}
	return nil
}

// redactedTo compares text and plain integers exactly. A constant of another
// type has to differ from the old value: that the old one is gone is what the
// claim is about.
func redactedTo(now, before []byte, rule redactionRule, d *schema.Column) bool {
	switch {
	case rule.null:
		return now == nil
	case now == nil:
		return before == nil // a null stays a null
	case d.PhysicalType() == parquet.Types.ByteArray:
		return string(now) == rule.value
	}
	if n, ok := littleEndian(now); ok && fmt.Sprint(n) == rule.value {
		return true
	}
	return before != nil && string(now) != string(before)
}
