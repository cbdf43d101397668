package iceberg

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// timeBound is a time range in the units of its column.
type timeBound struct {
	id    int
	width int   // bytes of a serialized bound
	since int64 // first unit inside
	until int64 // first unit outside
}

func newTimeBound(meta table.Metadata, r warehouse.TimeRange) (*timeBound, error) {
	f, err := locate(meta, r.Column)
	if err != nil {
		return nil, fmt.Errorf("time column: %w", err)
	}
	unit, err := timeUnit(f.leaf().Type)
	if err != nil {
		return nil, fmt.Errorf("time column %q is %s: %w", r.Column, f.leaf().Type, err)
	}
	if f.repeated() {
		return nil, fmt.Errorf("time column %q lies inside a list or map: %w", r.Column, warehouse.ErrType)
	}
	b := &timeBound{id: f.leaf().ID, width: 8, since: math.MinInt64, until: math.MaxInt64}
	if unit > time.Hour {
		b.width = 4
	}
	if !r.Since.IsZero() {
		b.since = units(r.Since, unit)
	}
	if !r.Until.IsZero() {
		b.until = units(r.Until, unit)
		if !r.Until.Truncate(unit).Equal(r.Until) {
			b.until++ // the unit that Until lies in is partly inside
		}
	}
	return b, nil
}

func timeUnit(t icebergo.Type) (time.Duration, error) {
	switch t.(type) {
	case icebergo.DateType:
		return 24 * time.Hour, nil
	case icebergo.TimestampType, icebergo.TimestampTzType:
		return time.Microsecond, nil
	case icebergo.TimestampNsType, icebergo.TimestampTzNsType:
		return time.Nanosecond, nil
	}
	return 0, fmt.Errorf("want a date or timestamp: %w", warehouse.ErrType)
}

// units counts whole units since 1970, rounding down.
func units(t time.Time, unit time.Duration) int64 {
	switch unit {
	case time.Microsecond:
		return t.UnixMicro()
	case time.Nanosecond:
		switch { // 64 bits of nanoseconds reach from 1677 to 2262
		case t.Year() < 1678:
			return math.MinInt64
		case t.Year() > 2261:
			return math.MaxInt64 - 1
		}
		return t.UnixNano()
	}
	days := t.Unix() / 86400
	if t.Unix()%86400 < 0 {
		days--
	}
	return days
}

// outside says whether every row of the file has a time, and each lies out of
// the range. A file without bounds, or with rows without a time, is inside.
func (b *timeBound) outside(s *fileStats) bool {
	if nulls, ok := s.nulls[b.id]; !ok || nulls != 0 {
		return false
	}
	lo, okLo := b.value(s.lower[b.id])
	hi, okHi := b.value(s.upper[b.id])
	return okLo && okHi && lo <= hi && (hi < b.since || lo >= b.until)
}

// value decodes a bound. One written while the column was a date, before it
// became a timestamp, has another width and unit and says nothing.
func (b *timeBound) value(bound []byte) (int64, bool) {
	switch {
	case len(bound) != b.width:
		return 0, false
	case b.width == 4:
		return int64(int32(binary.LittleEndian.Uint32(bound))), true
	}
	return int64(binary.LittleEndian.Uint64(bound)), true
}
