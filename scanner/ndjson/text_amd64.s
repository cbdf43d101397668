//go:build amd64 && !purego

#include "textflag.h"

// func passAVX2(p *byte, n int) int
// n is at least 32. The first position of a quote, a backslash or a control
// character in whole blocks of 32 bytes, or how many bytes those are.
TEXT ·passAVX2(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	XORQ AX, AX
	MOVQ $0x2222222222222222, DX
	VMOVQ DX, X1
	VPBROADCASTQ X1, Y1
	MOVQ $0x5c5c5c5c5c5c5c5c, DX
	VMOVQ DX, X2
	VPBROADCASTQ X2, Y2
	MOVQ $0x1f1f1f1f1f1f1f1f, DX
	VMOVQ DX, X3
	VPBROADCASTQ X3, Y3

block:
	VMOVDQU (SI)(AX*1), Y0
	VPCMPEQB Y0, Y1, Y4
	VPCMPEQB Y0, Y2, Y5
	VPMINUB Y0, Y3, Y6
	VPCMPEQB Y0, Y6, Y6
	VPOR Y4, Y5, Y4
	VPOR Y4, Y6, Y4
	VPMOVMSKB Y4, DX
	TESTL DX, DX
	JNZ found
	ADDQ $32, AX
	SUBQ $32, CX
	CMPQ CX, $32
	JGE block
	VZEROUPPER
	MOVQ AX, ret+16(FP)
	RET

found:
	BSFL DX, DX
	ADDQ DX, AX
	VZEROUPPER
	MOVQ AX, ret+16(FP)
	RET
