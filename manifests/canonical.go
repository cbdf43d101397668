package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrNotCanonical: the bytes are valid JSON but not the one canonical form of it.
var ErrNotCanonical = errors.New("not in canonical form")

// Canonical returns v's JSON in the canonical form of RFC 8785, restricted to
// integers: members sorted by UTF-16 code units, no white space, shortest
// escapes. Two runs with the same facts have the same bytes, and any RFC 8785
// library in another language makes them too.
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode json: %w", err)
	}
	return Canonicalize(raw)
}

// Canonicalize brings JSON text to canonical form. Fractions, exponents and
// integers beyond 2^53 are refused: RFC 8785 would round them.
func Canonicalize(raw []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode json: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the json value")
	}
	return appendCanonical(make([]byte, 0, len(raw)), v)
}

// checkCanonical fails unless raw is its own canonical form. Duplicate members,
// which decoders resolve differently, fail here too.
func checkCanonical(raw []byte) error {
	c, err := Canonicalize(raw)
	if err != nil {
		return err
	}
	if !bytes.Equal(c, raw) {
		return ErrNotCanonical
	}
	return nil
}

const maxSafeInteger = 1 << 53

func appendCanonical(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case json.Number:
		n, err := strconv.ParseInt(v.String(), 10, 64)
		if err != nil || n > maxSafeInteger || n < -maxSafeInteger {
			return nil, errors.New("canonical json holds integers up to 2^53 only")
		}
		return strconv.AppendInt(dst, n, 10), nil
	case string:
		return appendString(dst, v), nil
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendCanonical(dst, e); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case map[string]any:
		return appendObject(dst, v)
	default:
		return nil, fmt.Errorf("canonical json: type %T", v)
	}
}

func appendObject(dst []byte, m map[string]any) ([]byte, error) {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.SortFunc(names, compareUTF16)
	dst = append(dst, '{')
	for i, n := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, n), ':')
		var err error
		if dst, err = appendCanonical(dst, m[n]); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// compareUTF16 orders as RFC 8785 section 3.2.3 does. It differs from byte
// order only where a surrogate pair meets U+E000 and above.
func compareUTF16(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}

// appendString escapes as RFC 8785 section 3.2.2.2 does: only what must be.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		if n := plainRun(s[i:]); n > 0 {
			dst = append(dst, s[i:i+n]...)
			i += n
			continue
		}
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r) // invalid bytes become U+FFFD
			i += n
			continue
		}
		switch { //nolint:staticcheck // the other cases are ranges
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\b':
			dst = append(dst, `\b`...)
		case c == '\f':
			dst = append(dst, `\f`...)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		default: // a control character
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
	}
	return append(dst, '"')
}

// plainRun is how many bytes at the beginning stand for themselves.
func plainRun(s string) int {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}
