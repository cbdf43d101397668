//go:build amd64 && !purego

#include "textflag.h"

// The specification's salt, one multiplier a word.
DATA salt<>+0x00(SB)/4, $0x47b6137b
DATA salt<>+0x04(SB)/4, $0x44974d91
DATA salt<>+0x08(SB)/4, $0x8824ad5b
DATA salt<>+0x0c(SB)/4, $0xa2b7289d
DATA salt<>+0x10(SB)/4, $0x705495c7
DATA salt<>+0x14(SB)/4, $0x2df1424b
DATA salt<>+0x18(SB)/4, $0x9efc4947
DATA salt<>+0x1c(SB)/4, $0x5c6bfb31
GLOBL salt<>(SB), RODATA|NOPTR, $32

// AHEAD is how many hashes ahead a block is prefetched.
#define AHEAD 16

// PROBE tests the hash in AX and appends index CX to (DI)(R8*4).
// VPTEST sets the carry when no bit of the mask is missing from the block, and
// moving the index does not touch flags: no branch depends on the data.
#define PROBE \
	MOVQ         AX, BX; \
	SHRQ         $32, BX; \
	IMULQ        DX, BX; \
	SHRQ         $32, BX; \
	SHLQ         $5, BX; \
	VMOVD        AX, X1; \
	VPBROADCASTD X1, Y1; \
	VPMULLD      Y14, Y1, Y1; \
	VPSRLD       $27, Y1, Y1; \
	VPSLLVD      Y1, Y15, Y1; \
	VMOVDQU      (SI)(BX*1), Y2; \
	VPTEST       Y1, Y2; \
	MOVL         CX, (DI)(R8*4); \
	ADCQ         $0, R8

// func probeAVX2(dst *int32, blocks *[8]uint32, nblocks uint64, hashes *uint64, n uint64) uint64
TEXT ·probeAVX2(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ blocks+8(FP), SI
	MOVQ nblocks+16(FP), DX
	MOVQ hashes+24(FP), R9
	MOVQ n+32(FP), R10

	VMOVDQU  salt<>(SB), Y14
	VPCMPEQD Y15, Y15, Y15
	VPSRLD   $31, Y15, Y15  // ones
	XORQ     R8, R8         // hits
	XORQ     CX, CX         // index
	MOVQ     R10, R11
	SUBQ     $AHEAD, R11    // hashes with another one AHEAD
	JLE      tail

ahead:
	MOVQ       (AHEAD*8)(R9)(CX*8), R12
	SHRQ       $32, R12
	IMULQ      DX, R12
	SHRQ       $32, R12
	SHLQ       $5, R12
	PREFETCHT0 (SI)(R12*1)
	MOVQ       (R9)(CX*8), AX
	PROBE
	INCQ       CX
	CMPQ       CX, R11
	JLT        ahead

tail:
	CMPQ CX, R10
	JGE  done
	MOVQ (R9)(CX*8), AX
	PROBE
	INCQ CX
	JMP  tail

done:
	VZEROUPPER
	MOVQ R8, ret+40(FP)
	RET
