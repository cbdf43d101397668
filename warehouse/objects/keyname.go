package objects

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"unicode"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// errFound ends a walk that has seen enough.
var errFound = errors.New("found")

// KeyPaths lists the prefix until an object's name holds a key.
func (t *Target) KeyPaths(ctx context.Context, sel warehouse.Selection) (bool, error) {
	bound, err := t.Bind(ctx, sel)
	if err != nil {
		return false, err
	}
	err = t.walk(ctx, func(info storage.Info, c class) error {
		if c != data {
			return nil
		}
		m, err := t.fix(info.Path, bound)
		if err == nil && (m.byKey || t.namesKey(info.Path, bound)) {
			return errFound
		}
		return err
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// namesKey says whether the path below the prefix spells a key, or a part of
// one: as a folder, a partition's value, a name without its suffix, or a word
// in one of them. Numbers within a name count from five digits on, without
// leading zeros: shorter ones are counters and dates more often than keys.
func (t *Target) namesKey(path string, bound []warehouse.BoundMatch) bool {
	for step := range strings.SplitSeq(strings.TrimPrefix(path, t.prefix), "/") {
		if u, err := url.PathUnescape(step); err == nil {
			step = u
		}
		if _, value, ok := strings.Cut(step, "="); ok {
			step = value
		}
		whole := []string{step}
		for i := len(step) - 1; i > 0; i-- {
			if step[i] == '.' {
				whole = append(whole, step[:i])
			}
		}
		for _, w := range whole {
			if isKey(w, bound) {
				return true
			}
		}
		for _, split := range []func(rune) bool{notInMail, notInWord} {
			for w := range strings.FieldsFuncSeq(step, split) {
				if (len(w) >= 5 || !digits(w)) && isKey(w, bound) {
					return true
				}
			}
		}
	}
	return false
}

func notInWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }

func notInMail(r rune) bool { return notInWord(r) && !strings.ContainsRune("@.-_+", r) }

func digits(w string) bool { return strings.Trim(w, "0123456789") == "" }

// isKey says whether a text is the value of any part of any key.
func isKey(text string, bound []warehouse.BoundMatch) bool {
	if len(text) > 1 && text[0] == '0' && digits(text) {
		return false
	}
	for _, m := range bound {
		for k, part := range m.Keys.Schema() {
			canonical, err := part.AppendText(nil, []byte(text))
			if err == nil && m.Keys.PartSet(k).Contains(canonical) {
				return true
			}
		}
	}
	return false
}
