//go:build amd64 && !purego

#include "textflag.h"

// func endsAVX2(p *byte, comma byte) uint64
// A bit for each of 64 bytes that is the delimiter or a line feed.
TEXT ·endsAVX2(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVBQZX comma+8(FP), DX
	VMOVQ DX, X1
	VPBROADCASTB X1, Y1
	MOVQ $0x0a, DX
	VMOVQ DX, X2
	VPBROADCASTB X2, Y2
	VMOVDQU (SI), Y3
	VMOVDQU 32(SI), Y4
	VPCMPEQB Y3, Y1, Y5
	VPCMPEQB Y3, Y2, Y6
	VPCMPEQB Y4, Y1, Y7
	VPCMPEQB Y4, Y2, Y8
	VPOR Y5, Y6, Y5
	VPOR Y7, Y8, Y7
	VPMOVMSKB Y5, AX
	VPMOVMSKB Y7, BX
	SHLQ $32, BX
	ORQ BX, AX
	VZEROUPPER
	MOVQ AX, ret+16(FP)
	RET
