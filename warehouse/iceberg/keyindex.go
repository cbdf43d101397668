package iceberg

// KeyIndex says which immutable data files are known to hold no key of a
// match, from filters made when the files were last scanned. It prunes only:
// a file that it does not know is read.
type KeyIndex interface {
	// Excludes says whether no row of the file can match the i-th match of the
	// selection that the index was opened for.
	Excludes(path string, match int) bool
}

// UseKeyIndex makes planning consult an index. Set it before planning.
func (t *Table) UseKeyIndex(x KeyIndex) { t.keyIndex = x }
