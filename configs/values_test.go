package configs

import (
	"encoding"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurationsReadWhatTheyWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Range(0, int64(1000*24*time.Hour/time.Second)).Draw(t, "seconds") * int64(time.Second))
		got, err := ParseDuration(d.String())
		if err != nil || got != d {
			t.Fatalf("%d wrote %q and read %d, %v", d, d.String(), got, err)
		}
	})
}

func TestTextFormsAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<52).Draw(t, "n")
		share := rapid.Int64Range(0, int64(Whole)).Draw(t, "share")
		roundTrip(t, Size(n), new(Size))
		roundTrip(t, ByteRate(n), new(ByteRate))
		roundTrip(t, RequestRate(n), new(RequestRate))
		roundTrip(t, Share(share), new(Share))
	})
}

func roundTrip[T interface {
	comparable
	encoding.TextMarshaler
}, P interface {
	*T
	encoding.TextUnmarshaler
}](t *rapid.T, v T, into P) {
	text, err := v.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if err := into.UnmarshalText(text); err != nil || *into != v {
		t.Fatalf("%v wrote %q and read %v, %v", v, text, *into, err)
	}
}

func TestValuesReadAsPeopleWriteThem(t *testing.T) {
	day := Duration(24 * time.Hour)
	for text, want := range map[string]Duration{"7d": 7 * day, "36h": day + day/2, "1w2d": 9 * day, "90s": Duration(90 * time.Second), "0": 0, "1.5h": Duration(90 * time.Minute)} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7", "d", "7x", "1h2d", "1d1d", "1e9d", "99999999999w", ".", "7d ", "-1h", "NaNh", "Infd"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q read as %v", text, got)
		}
	}
	for text, want := range map[string]Size{"400MiB": 400 << 20, "2GB": 2e9, "65536": 65536, "1.5 KiB": 1536, "1tib": 1 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]Count{"5M": 5e6, "20k": 20e3, "300": 300, "1.5k": 1500} {
		if got, err := ParseCount(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "M", "5X", "-5", "1.2", "0.0001k", "99999999999999999999", "1e3", "0x10", "1..2"} {
		if got, err := ParseCount(text); err == nil {
			t.Errorf("%q read as %v", text, got)
		}
	}
	for text, want := range map[string]Share{"1%": Percent, "0.05%": 500, "100%": Whole, "0%": 0, "12.5 %": 125_000} {
		if got, err := ParseShare(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestShareOfNeverOverflowsAndIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n")
		s := Share(rapid.Int64Range(0, int64(Whole)).Draw(t, "share"))
		got := s.Of(n)
		if got < 0 || got > n {
			t.Fatalf("%v of %d is %d", s, n, got)
		}
		if n < math.MaxInt64/int64(Whole) && got != n*int64(s)/int64(Whole) {
			t.Fatalf("%v of %d is %d", s, n, got)
		}
	})
	if Whole.Of(math.MaxInt64) != math.MaxInt64 {
		t.Error("all of it is not all of it")
	}
}
