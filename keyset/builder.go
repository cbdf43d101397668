package keyset

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"time"
)

// Builder collects keys for a Set. It is not safe for concurrent use.
type Builder struct {
	c     *collector
	rules []*rules
	buf   keyBuf
	key   []byte
	parts [][]byte
	cache askedCache
}

// NewBuilder starts a set of the schema.
func NewBuilder(name string, schema Schema) (*Builder, error) {
	if err := schema.Validate(); err != nil {
		return nil, err
	}
	b := &Builder{c: newCollector(name, schema, runtime.GOMAXPROCS(0))}
	b.rules = schema.compile()
	b.cache.in = b.c.requests
	return b, nil
}

// compile returns each part's rules. The schema has been validated.
func (s Schema) compile() []*rules {
	out := make([]*rules, len(s))
	for i, p := range s {
		out[i], _ = compileRules(p)
	}
	return out
}

// AddText adds a key from the text of its parts, normalised.
func (b *Builder) AddText(parts ...string) error {
	schema := b.c.schema
	if len(parts) != len(schema) {
		return fmt.Errorf("%w: %d values for a key of %d parts", ErrMalformed, len(parts), len(schema))
	}
	b.key = b.key[:0]
	for i, text := range parts {
		var err error
		if b.key, err = appendKeyText(b.key, []byte(text), schema, i, b.rules[i]); err != nil {
			return fmt.Errorf("%w: key part %q: %w", ErrMalformed, schema[i].Name, err)
		}
	}
	b.add(0)
	return nil
}

// appendKeyText appends part i of a key: framed when the key is composite.
func appendKeyText(dst, text []byte, schema Schema, i int, r *rules) ([]byte, error) {
	if len(schema) == 1 {
		return appendText(dst, text, schema[i].Type, r)
	}
	out, err := appendText(openPart(dst, schema[i].Type.Kind), text, schema[i].Type, r)
	if err != nil {
		return dst, err
	}
	return closePart(out, len(dst)), nil
}

// openPart starts a part of a composite key with its tag and room for a short
// length. What is appended then is the part, until closePart.
func openPart(dst []byte, k Kind) []byte { return append(dst, byte(k), 0) }

// closePart writes the length of the part that openPart started at start. A
// long one takes more room: the part moves up.
func closePart(out []byte, start int) []byte {
	n := len(out) - start - 2
	if n < 0x80 {
		out[start+1] = byte(n)
		return out
	}
	var length [binary.MaxVarintLen64]byte
	w := binary.PutUvarint(length[:], uint64(n))
	out = append(out, length[:w-1]...) // room
	copy(out[start+1+w:], out[start+2:start+2+n])
	copy(out[start+1:], length[:w])
	return out
}

// Add adds a canonical key.
func (b *Builder) Add(canonical []byte) error {
	return b.AddRequested(canonical, "", time.Time{})
}

// AddRequested adds a canonical key and the request that named it.
func (b *Builder) AddRequested(canonical []byte, id string, received time.Time) (err error) {
	if b.parts, err = b.c.schema.SplitTuple(b.parts[:0], canonical); err != nil {
		return err
	}
	b.key = append(b.key[:0], canonical...)
	b.add(b.cache.add([]byte(id), received))
	return nil
}

func (b *Builder) add(request uint32) {
	b.buf.add(b.key, b.c.width, request)
	if b.buf.n >= 1<<16 {
		b.c.add(b.buf)
		b.buf = keyBuf{}
	}
}

// Build returns the set; the builder must not be used after.
func (b *Builder) Build() (*Set, error) {
	b.c.add(b.buf)
	return b.c.build(newSeed())
}

// keyBuf is keys in no order, as a reader or builder collects them.
type keyBuf struct {
	n     int
	words []uint64 // width 8: one a key; width 16: two
	arena []byte   // width 0
	ends  []uint64 // width 0: where each key ends
	// codes are each key's requests (see listTable); shorter than n when the rest
	// have none.
	codes []uint32
}

func (k *keyBuf) add(key []byte, width int, code uint32) {
	switch width {
	case 8:
		k.words = append(k.words, binary.BigEndian.Uint64(key))
	case 16:
		k.words = append(k.words, binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:]))
	default:
		k.arena = append(k.arena, key...)
		k.ends = append(k.ends, uint64(len(k.arena)))
	}
	if code != 0 {
		for len(k.codes) < k.n {
			k.codes = append(k.codes, 0)
		}
		k.codes = append(k.codes, code)
	}
	k.n++
}

func (k *keyBuf) code(i int) uint32 {
	if i < len(k.codes) {
		return k.codes[i]
	}
	return 0
}
