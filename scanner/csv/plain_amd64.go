//go:build amd64 && !purego

package csv

import "golang.org/x/sys/cpu"

var useAVX2 = cpu.X86.HasAVX2

// endsAVX2 has a bit for each of 64 bytes that is the delimiter or a line feed.
//
//go:noescape
func endsAVX2(p *byte, comma byte) uint64
