package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCanonicalFormFollowsRFC8785(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":[true,null,"x"]}`:                     `{"a":[true,null,"x"],"b":1}`,
		" {\"a\" :\n 1 }":                                 `{"a":1}`,
		`"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"`: "\"\u20ac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"",    // section 3.2.2.2
		`{"\ufb33":1,"\ud83d\ude02":2,"\u20ac":3}`:        "{\"\u20ac\":3,\"\U0001F602\":2,\"\ufb33\":1}", // by UTF-16 units
		`-5`: `-5`, `"<&>"`: `"<&>"`, `"\u2028"`: "\"\u2028\"",
	} {
		got, err := Canonicalize([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, want %s (%v)", in, got, want, err)
		}
		if checkCanonical(got) != nil {
			t.Errorf("%s is not its own canonical form", got)
		}
	}
	for _, in := range []string{`1.5`, `1e3`, `9007199254740993`, `{`, `1 2`, ``, `{"a":1}x`} {
		if got, err := Canonicalize([]byte(in)); err == nil {
			t.Errorf("%s became %s", in, got)
		}
	}
	if err := checkCanonical([]byte(`{"a":1,"a":1}`)); !errors.Is(err, ErrNotCanonical) {
		t.Errorf("duplicate members: %v", err)
	}
}

func genRecord(rt *rapid.T) Record {
	text := rapid.StringN(0, 20, 60)
	num := rapid.Int64Range(0, maxSafeInteger)
	r := Record{
		Kind: rapid.SampledFrom([]string{RecordFile, RecordDelete}).Draw(rt, "kind"), Target: text.Draw(rt, "target"), Path: text.Draw(rt, "path"),
		Keyed: rapid.Bool().Draw(rt, "keyed"), Status: text.Draw(rt, "status"), Method: text.Draw(rt, "method"), Reason: text.Draw(rt, "reason"),
		SizeBefore: num.Draw(rt, "n1"), RowsIn: num.Draw(rt, "n2"), BytesCopied: num.Draw(rt, "n3"), ETag: text.Draw(rt, "etag"),
		KeyedDigest: rapid.Bool().Draw(rt, "kd"), Verified: rapid.Bool().Draw(rt, "v"), NewPath: text.Draw(rt, "np"), Object: text.Draw(rt, "o"),
		Response: text.Draw(rt, "r"), Rewriter: text.Draw(rt, "w"), Format: text.Draw(rt, "f"), Version: text.Draw(rt, "ver"),
	}
	if rapid.Bool().Draw(rt, "timed") {
		r.Time = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(rt, "time")).UTC()
	}
	return r
}

// TestRecordEncoderIsTheCanonicalForm: the fast path and the general one agree.
func TestRecordEncoderIsTheCanonicalForm(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := genRecord(rt)
		want, err := Canonical(r)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := r.canonical()
		if err != nil || !bytes.Equal(got, want) {
			rt.Fatalf("%s\n%s %v", got, want, err)
		}
	})
}

// TestRecordEncoderKnowsEveryMember fails when a field is added to Record alone.
func TestRecordEncoderKnowsEveryMember(t *testing.T) {
	var r Record
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Int64:
			f.SetInt(1)
		case reflect.Bool:
			f.SetBool(true)
		default:
			f.Set(reflect.ValueOf(at("2026-01-01T00:00:00.5Z")))
		}
	}
	want, err := Canonical(r)
	got, err2 := r.canonical()
	if err != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("%s\n%s", got, want)
	}
	if n := strings.Count(string(got), `":`); n != v.NumField() {
		t.Errorf("%d members, %d fields", n, v.NumField())
	}
}

func FuzzCanonicalize(f *testing.F) {
	f.Add([]byte(`{"a":[1,"x",null,{"b":true}]}`))
	f.Add([]byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Canonicalize(raw)
		if err != nil {
			return
		}
		again, err := Canonicalize(c)
		if err != nil || !bytes.Equal(c, again) || !json.Valid(c) {
			t.Errorf("not stable: %q, %q", c, again)
		}
	})
}

func FuzzParseEnvelope(f *testing.F) {
	b, tr, _ := signed(f)
	f.Add(b.Envelope)
	f.Add([]byte(`{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}` + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, checks := Verify(t.Context(), Bundle{Envelope: raw}, tr)
		if ok, _ := Verified(checks); ok && !bytes.Equal(raw, b.Envelope) {
			t.Error("another envelope verified")
		}
	})
}

func FuzzParseTrust(f *testing.F) {
	_, tr, _ := signed(f)
	b, err := tr.JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if tr, err := ParseTrust(raw); err == nil && len(tr.Keys) == 0 {
			t.Error("a trust file without keys")
		}
	})
}

func FuzzReadSidecar(f *testing.F) {
	_, side := sample(f, "run-1")
	f.Add(side)
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, err := range ReadSidecar(bytes.NewReader(raw), int64(len(raw))) {
			if err != nil {
				return
			}
		}
	})
}
