package ndjson

// What a record holds beside the columns is most of it: these functions check
// it by the grammar of RFC 8259 and keep nothing. Each takes the position of a
// first byte and returns that behind the last one.

// space passes white space.
func space(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipValue passes a value; depth is its own.
func skipValue(b []byte, i, depth int) (int, error) {
	if depth > maxDepth {
		return i, errDeep
	}
	if i >= len(b) {
		return i, errSyntax
	}
	switch c := b[i]; {
	case c == '"':
		end, _, err := skipString(b, i)
		return end, err
	case c == '-' || c >= '0' && c <= '9':
		return skipNumber(b, i)
	case c == '{':
		return skipObject(b, i, depth)
	case c == '[':
		return skipArray(b, i, depth)
	}
	return skipWord(b, i)
}

func skipObject(b []byte, i, depth int) (int, error) {
	if i = space(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return i, errSyntax
		}
		var err error
		if i, _, err = skipString(b, i); err != nil {
			return i, err
		}
		if i = space(b, i); i >= len(b) || b[i] != ':' {
			return i, errSyntax
		}
		if i, err = skipValue(b, space(b, i+1), depth+1); err != nil {
			return i, err
		}
		if i = space(b, i); i >= len(b) {
			return i, errSyntax
		}
		switch b[i] {
		case '}':
			return i + 1, nil
		case ',':
			i = space(b, i+1)
		default:
			return i, errSyntax
		}
	}
}

func skipArray(b []byte, i, depth int) (int, error) {
	if i = space(b, i+1); i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		var err error
		if i, err = skipValue(b, i, depth+1); err != nil {
			return i, err
		}
		if i = space(b, i); i >= len(b) {
			return i, errSyntax
		}
		switch b[i] {
		case ']':
			return i + 1, nil
		case ',':
			i = space(b, i+1)
		default:
			return i, errSyntax
		}
	}
}

// skipNumber passes a number (section 6).
func skipNumber(b []byte, i int) (int, error) {
	if b[i] == '-' {
		i++
	}
	start := i
	i = digits(b, i)
	if i == start || i-start > 1 && b[start] == '0' {
		return i, errSyntax
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = digits(b, start); i == start {
			return i, errSyntax
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = digits(b, i); i == start {
			return i, errSyntax
		}
	}
	return i, nil
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// skipWord passes true, false or null.
func skipWord(b []byte, i int) (int, error) {
	if i >= len(b) {
		return i, errSyntax
	}
	var want string
	switch b[i] {
	case 't':
		want = "true"
	case 'f':
		want = "false"
	case 'n':
		want = "null"
	default:
		return i, errSyntax
	}
	if len(b)-i < len(want) || string(b[i:i+len(want)]) != want {
		return i, errSyntax
	}
	return i + len(want), nil
}
