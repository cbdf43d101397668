package configs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// scalar is a value that one YAML scalar holds in a form of its own.
type scalar interface{ parse(text string) error }

// Duration is a time.Duration that also reads days and weeks: 7d, 36h, 1w2d, 90s.
// A day is always 24 hours.
type Duration time.Duration

var durationUnits = []struct {
	name string
	unit time.Duration
}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

// ParseDuration reads a duration such as 7d, 36h or 1d12h.
func ParseDuration(text string) (Duration, error) {
	rest, total, last := text, 0.0, len(durationUnits)+1
	if rest == "0" {
		return 0, nil
	}
	for rest != "" {
		n, tail, ok := leadingNumber(rest)
		if !ok {
			return 0, fmt.Errorf("not a duration such as 7d, 36h or 90s")
		}
		unit := -1
		for i, u := range durationUnits {
			if strings.HasPrefix(tail, u.name) {
				unit = i
			}
		}
		rank := len(durationUnits) - unit
		if unit < 0 || rank >= last {
			return 0, fmt.Errorf("not a duration: units are w, d, h, m and s, largest first")
		}
		last = rank
		total += n * float64(durationUnits[unit].unit)
		rest = tail[1:]
	}
	if text == "" {
		return 0, fmt.Errorf("not a duration such as 7d, 36h or 90s")
	}
	if total >= math.MaxInt64 {
		return 0, fmt.Errorf("duration is too long")
	}
	return Duration(total), nil
}

func (d *Duration) parse(text string) (err error) { *d, err = ParseDuration(text); return err }

// Duration returns d as the standard library's type.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// String writes the shortest form that ParseDuration reads back.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	rest := time.Duration(d)
	for _, u := range durationUnits[1:] { // weeks are shown as days
		if u.unit == time.Second {
			if rest > 0 {
				b.WriteString(strconv.FormatFloat(rest.Seconds(), 'f', -1, 64) + u.name)
			}
			break
		}
		if n := rest / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			rest -= n * u.unit
		}
	}
	return b.String()
}

// MarshalText writes String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads ParseDuration's form.
func (d *Duration) UnmarshalText(b []byte) error { return d.parse(string(b)) }

// leadingNumber splits a non-negative decimal number off the front of s.
func leadingNumber(s string) (n float64, rest string, ok bool) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	n, err := strconv.ParseFloat(s[:i], 64)
	return n, s[i:], err == nil
}

// scaled reads a number with one of the suffixes; exact says that the result must be whole.
func scaled(text string, suffixes map[string]float64, want string) (int64, error) {
	n, rest, ok := leadingNumber(strings.TrimSpace(text))
	factor, known := suffixes[strings.ToLower(strings.TrimSpace(rest))]
	if !ok || !known {
		return 0, fmt.Errorf("not %s", want)
	}
	v := n * factor
	if v >= 1<<63 {
		return 0, fmt.Errorf("number is too large")
	}
	if v != math.Trunc(v) {
		return 0, fmt.Errorf("not a whole number of units")
	}
	return int64(v), nil
}

var (
	sizeUnits = map[string]float64{"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
	countUnits = map[string]float64{"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
)

// Size is a number of bytes: 400MiB, 2GB, 65536.
type Size int64

// ParseSize reads a size such as 400MiB.
func ParseSize(text string) (Size, error) {
	n, err := scaled(text, sizeUnits, "a size such as 400MiB or 2GB")
	return Size(n), err
}

func (s *Size) parse(text string) (err error) { *s, err = ParseSize(text); return err }

// String writes the largest binary unit that divides the size, or bytes.
func (s Size) String() string {
	for _, u := range []struct {
		name string
		unit Size
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s != 0 && s%u.unit == 0 {
			return strconv.FormatInt(int64(s/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText writes String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads ParseSize's form.
func (s *Size) UnmarshalText(b []byte) error { return s.parse(string(b)) }

// Count is a number of things: 5M, 20k, 300.
type Count int64

// ParseCount reads a count such as 5M.
func ParseCount(text string) (Count, error) {
	n, err := scaled(text, countUnits, "a count such as 5M or 20k")
	return Count(n), err
}

func (c *Count) parse(text string) (err error) { *c, err = ParseCount(text); return err }

// Share is a part of a whole, in millionths: 1% is 10,000.
type Share int64

// Percent is one percent, Whole all of it.
const (
	Percent Share = 10_000
	Whole   Share = 100 * Percent
)

// ParseShare reads a percentage such as 1% or 0.05%.
// The sign is required, since a bare 1 could mean everything.
func ParseShare(text string) (Share, error) {
	number, found := strings.CutSuffix(strings.TrimSpace(text), "%")
	n, rest, ok := leadingNumber(strings.TrimSpace(number))
	if !found || !ok || rest != "" {
		return 0, fmt.Errorf("not a share such as 1%% or 0.05%%")
	}
	v := math.Round(n * float64(Percent))
	if v > float64(Whole) {
		return 0, fmt.Errorf("share is above 100%%")
	}
	return Share(v), nil
}

func (s *Share) parse(text string) (err error) { *s, err = ParseShare(text); return err }

// Of returns the share of n, rounded down, without overflow.
func (s Share) Of(n int64) int64 {
	return n/int64(Whole)*int64(s) + n%int64(Whole)*int64(s)/int64(Whole)
}

// Fraction returns the share as a number from 0 to 1.
func (s Share) Fraction() float64 { return float64(s) / float64(Whole) }

// String writes a percentage.
func (s Share) String() string {
	return strconv.FormatFloat(float64(s)/float64(Percent), 'f', -1, 64) + "%"
}

// MarshalText writes String.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads ParseShare's form.
func (s *Share) UnmarshalText(b []byte) error { return s.parse(string(b)) }

// ByteRate is bytes a second: 400MiB/s.
type ByteRate int64

func (r *ByteRate) parse(text string) error {
	per, err := perSecond(text, "a rate such as 400MiB/s")
	if err != nil {
		return err
	}
	n, err := scaled(per, sizeUnits, "a rate such as 400MiB/s")
	*r = ByteRate(n)
	return err
}

// String writes the rate as the job file does.
func (r ByteRate) String() string { return Size(r).String() + "/s" }

// MarshalText writes String.
func (r ByteRate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads 400MiB/s.
func (r *ByteRate) UnmarshalText(b []byte) error { return r.parse(string(b)) }

// RequestRate is requests a second: 800/s.
type RequestRate int64

func (r *RequestRate) parse(text string) error {
	per, err := perSecond(text, "a rate such as 800/s")
	if err != nil {
		return err
	}
	n, err := scaled(per, countUnits, "a rate such as 800/s")
	*r = RequestRate(n)
	return err
}

// String writes the rate as the job file does.
func (r RequestRate) String() string { return strconv.FormatInt(int64(r), 10) + "/s" }

// MarshalText writes String.
func (r RequestRate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads 800/s.
func (r *RequestRate) UnmarshalText(b []byte) error { return r.parse(string(b)) }

func perSecond(text, want string) (string, error) {
	amount, ok := strings.CutSuffix(strings.TrimSpace(text), "/s")
	if !ok {
		return "", fmt.Errorf("not %s", want)
	}
	return amount, nil
}

// Date is a calendar day.
type Date struct{ time.Time }

func (d *Date) parse(text string) error {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return fmt.Errorf("not a date such as 2027-01-31")
	}
	d.Time = t
	return nil
}

// String writes the day, or "" for none.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Format(time.DateOnly)
}

// MarshalText writes String.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalJSON writes String, since the embedded time would write more.
func (d Date) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, d.String()), nil }

// Strings is a list that may be written as a single value.
type Strings []string
