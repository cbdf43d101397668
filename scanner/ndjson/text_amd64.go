//go:build amd64 && !purego

package ndjson

import "golang.org/x/sys/cpu"

var useAVX2 = cpu.X86.HasAVX2

// passAVX2 returns the first position of a quote, a backslash or a control
// character in the whole blocks of 32 bytes of n, which is at least 32, or how
// many bytes those are.
//
//go:noescape
func passAVX2(p *byte, n int) int
