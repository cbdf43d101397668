package parquet

import (
	"bytes"

	"github.com/expunge/expunge/internal/thriftpatch"
)

// Field ids of Statistics (parquet.thrift).
const (
	statMax      = 1 // deprecated: signed order
	statMin      = 2
	statNulls    = 3
	statDistinct = 4
	statMaxValue = 5
	statMinValue = 6
	statMaxExact = 7
	statMinExact = 8
)

// statChange is what an edit did to the values that statistics describe.
type statChange struct {
	gone      bounds // of values that went
	stay      bounds // of values after the edit, if known
	stayKnown bool
	inexact   bool // stay are bounds, not values that occur
	literals  bool // new values came in
	nulls     int64
	values    int // non-null values after the edit
	leak      bool
}

// patchStatistics makes statistics true again and free of what is gone.
// Bounds that come from survivors keep their bytes.
func (c *chunkJob) patchStatistics(st *thriftpatch.Struct, ch statChange) {
	if st.Has(statNulls) {
		st.SetInt(statNulls, thriftpatch.I64, ch.nulls)
	}
	if !leaks.distinct {
		st.Delete(statDistinct)
	}
	oldMin, _ := st.Bytes(statMinValue)
	oldMax, _ := st.Bytes(statMaxValue)
	legacyMin, _ := st.Bytes(statMin)
	legacyMax, _ := st.Bytes(statMax)
	mirrored := oldMin != nil && oldMax != nil && bytes.Equal(oldMin, legacyMin) && bytes.Equal(oldMax, legacyMax)
	if c.typeOrdered {
		c.patchBounds(st, ch, statMinValue, statMaxValue)
	} else {
		st.Delete(statMinValue, statMaxValue, statMinExact, statMaxExact)
	}
	// The deprecated fields compare signed: for other orders they are only kept in step.
	switch {
	case c.order == orderSigned || c.order == orderFloat:
		c.patchBounds(st, ch, statMin, statMax)
	case mirrored && st.Has(statMinValue):
		lo, _ := st.Bytes(statMinValue)
		hi, _ := st.Bytes(statMaxValue)
		setBytes(st, statMin, legacyMin, lo)
		setBytes(st, statMax, legacyMax, hi)
	default:
		st.Delete(statMin, statMax)
	}
}

func setBytes(st *thriftpatch.Struct, id int16, old, v []byte) {
	if !bytes.Equal(old, v) {
		st.SetBytes(id, v)
	}
}

// patchBounds keeps, replaces or drops a pair of bounds.
func (c *chunkJob) patchBounds(st *thriftpatch.Struct, ch statChange, minID, maxID int16) {
	oldMin, hasMin := st.Bytes(minID)
	oldMax, hasMax := st.Bytes(maxID)
	if !hasMin && !hasMax {
		return
	}
	lo, loOK := c.newBound(oldMin, hasMin, ch, false)
	hi, hiOK := c.newBound(oldMax, hasMax, ch, true)
	if !loOK || !hiOK {
		st.Delete(minID, maxID)
		if minID == statMinValue {
			st.Delete(statMinExact, statMaxExact)
		}
		return
	}
	if hasMin && !bytes.Equal(lo, oldMin) {
		st.SetBytes(minID, lo)
		if minID == statMinValue && st.Has(statMinExact) {
			st.SetBool(statMinExact, !ch.inexact)
		}
	}
	if hasMax && !bytes.Equal(hi, oldMax) {
		st.SetBytes(maxID, hi)
		if maxID == statMaxValue && st.Has(statMaxExact) {
			st.SetBool(statMaxExact, !ch.inexact)
		}
	}
}

// newBound is a stored bound after an edit; false: there is none.
func (c *chunkJob) newBound(stored []byte, has bool, ch statChange, isMax bool) ([]byte, bool) {
	if !has {
		return nil, true
	}
	if ch.values == 0 || c.order == orderNone {
		return nil, false
	}
	if ch.leak {
		return stored, true
	}
	derived := derivedMin(c.order, stored, ch.gone.min)
	v := ch.stay.min
	foreign := ch.stayKnown && !derivedMin(c.order, stored, v) // looser than any value
	if isMax {
		derived = derivedMax(c.order, stored, ch.gone.max)
		v = ch.stay.max
		foreign = ch.stayKnown && !derivedMax(c.order, stored, v)
	}
	derived = derived || foreign
	if !derived && !ch.literals {
		return stored, true
	}
	if !ch.stayKnown {
		return nil, false
	}
	b := written(c.order, v, isMax)
	return b, b != nil
}

// leaks switches single wipes off, so that tests can show that they would notice.
var leaks struct{ pageStats, chunkStats, columnIndex, dictionary, bloom, gaps, foreign, distinct, sizes bool }
