// Package scannertest makes requests for the tests of scanners.
package scannertest

import (
	"testing"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
)

// Users asks for records whose column, an int64, has one of the ids.
func Users(t testing.TB, column string, ids ...string) scanner.Records {
	t.Helper()
	k, err := keyset.NewBuilder("users", keyset.Schema{{Name: "id", Type: keyset.Type{Kind: keyset.KindInt64}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := k.AddText(id); err != nil {
			t.Fatal(err)
		}
	}
	set, err := k.Build()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := scanner.ParseColumn(column)
	if err != nil {
		t.Fatal(err)
	}
	return scanner.Records{Match: []scanner.Match{{Keys: set, Columns: []scanner.ColumnRef{ref}}}}
}
