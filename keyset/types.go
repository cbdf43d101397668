package keyset

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is what a key part's values are.
type Kind uint8

// The kinds. Their numbers tag the parts of composite keys and are stored in
// the frozen form: never renumber.
const (
	KindInt64   Kind = 1
	KindString  Kind = 2
	KindUUID    Kind = 3
	KindDecimal Kind = 4
	KindDate    Kind = 5
	KindBinary  Kind = 6
)

// MaxPrecision is the largest decimal precision, as in Parquet and Iceberg.
const MaxPrecision = 38

// Type is the type of a key part.
type Type struct {
	Kind             Kind
	Precision, Scale int // of a decimal
}

var kindNames = [...]string{KindInt64: "int64", KindString: "string", KindUUID: "uuid",
	KindDecimal: "decimal", KindDate: "date", KindBinary: "binary"}

// String returns the name that ParseType reads.
func (t Type) String() string {
	if t.Kind == 0 || int(t.Kind) >= len(kindNames) {
		return "invalid"
	}
	if t.Kind == KindDecimal {
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	}
	return kindNames[t.Kind]
}

// ParseType reads "int64", "string", "uuid", "decimal(18,2)", "date" or "binary".
func ParseType(s string) (Type, error) {
	name, args, hasArgs := strings.Cut(strings.TrimSpace(s), "(")
	if !hasArgs {
		for k, n := range kindNames {
			if n == name && n != "" && Kind(k) != KindDecimal {
				return Type{Kind: Kind(k)}, nil
			}
		}
		return Type{}, fmt.Errorf("%w: unknown key type %q (want int64, string, uuid, decimal(P,S), date or binary)", ErrType, s)
	}
	args, closed := strings.CutSuffix(args, ")")
	p, sc, two := strings.Cut(args, ",")
	t := Type{Kind: KindDecimal}
	var err1, err2 error
	t.Precision, err1 = strconv.Atoi(strings.TrimSpace(p))
	if two {
		t.Scale, err2 = strconv.Atoi(strings.TrimSpace(sc))
	}
	if strings.TrimSpace(name) != "decimal" || !closed || err1 != nil || err2 != nil {
		return Type{}, fmt.Errorf("%w: unknown key type %q", ErrType, s)
	}
	return t, t.validate()
}

func (t Type) validate() error {
	switch {
	case t.Kind == 0 || int(t.Kind) >= len(kindNames):
		return fmt.Errorf("%w: invalid kind %d", ErrType, t.Kind)
	case t.Kind == KindDecimal && (t.Precision < 1 || t.Precision > MaxPrecision || t.Scale < 0 || t.Scale > t.Precision):
		return fmt.Errorf("%w: %s: want 1 <= precision <= %d and 0 <= scale <= precision", ErrType, t, MaxPrecision)
	case t.Kind != KindDecimal && (t.Precision != 0 || t.Scale != 0):
		return fmt.Errorf("%w: %s takes no precision or scale", ErrType, t)
	}
	return nil
}

// MarshalText writes the name that ParseType reads.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), t.validate() }

// UnmarshalText is ParseType.
func (t *Type) UnmarshalText(b []byte) (err error) {
	*t, err = ParseType(string(b))
	return err
}

// width is the length of the canonical form, 0 when it varies.
func (t Type) width() int {
	switch t.Kind {
	case KindInt64, KindDate:
		return 8
	case KindUUID, KindDecimal:
		return 16
	}
	return 0
}

// Part is one column of a key.
type Part struct {
	Name string `json:"name"`
	Type Type   `json:"type"`
	// Normalize lists the rules applied, in this order, to the keys and to the
	// values they are compared with: see Rules. None is ever implied.
	Normalize []string `json:"normalize,omitempty"`
}

// Schema is the parts of a key; more than one make it composite.
type Schema []Part

// Validate checks names, types and normalisation rules.
func (s Schema) Validate() error {
	if len(s) == 0 {
		return fmt.Errorf("%w: a key needs at least one part", ErrType)
	}
	seen := make(map[string]bool, len(s))
	codec, binary := false, false
	for _, p := range s {
		if p.Name == "" || seen[p.Name] {
			return fmt.Errorf("%w: key part names must be distinct and not empty (%q)", ErrType, p.Name)
		}
		seen[p.Name] = true
		if err := p.Type.validate(); err != nil {
			return fmt.Errorf("key part %q: %w", p.Name, err)
		}
		r, err := compileRules(p)
		if err != nil {
			return fmt.Errorf("key part %q: %w", p.Name, err)
		}
		codec = codec || r.codec != codecNone
		binary = binary || p.Type.Kind == KindBinary
	}
	// A job declares rules for all parts of a key at once, so those that do not
	// concern a part are ignored there, but not when they concern none.
	if codec && !binary {
		return fmt.Errorf("%w: hex and base64 are for binary keys", ErrType)
	}
	return nil
}

// Equal reports whether keys of both schemas have the same canonical forms.
// Names may differ: a hold's column may be called otherwise.
func (s Schema) Equal(o Schema) bool {
	if len(s) != len(o) {
		return false
	}
	for i := range s {
		a, b := s[i].Type, o[i].Type
		if a.Kind != b.Kind || a.Scale != b.Scale {
			return false
		}
	}
	return true
}

func (s Schema) clone() Schema {
	c := make(Schema, len(s))
	for i, p := range s {
		c[i] = p
		c[i].Normalize = append([]string(nil), p.Normalize...)
	}
	return c
}
