package s3

import "github.com/expunge/expunge/internal/storage"

// What S3 demands of a multipart upload.
const (
	minPart  = 5 << 20 // but for the last part
	maxParts = 10_000
	// bigPart is what is uploaded at once, and bigCopy what is copied at once.
	bigPart = 8 << 20
	bigCopy = 512 << 20
)

// piece is a stretch of the new object: bytes, or a range of another object.
type piece struct {
	data []byte
	src  *object
	// via reads the range for an upload: the source as the caller gave it, with its decorators.
	via    storage.Object
	off, n int64
}

func (p piece) follows(q piece) bool {
	return p.src != nil && q.src != nil && p.src.info == q.src.info && q.off+q.n == p.off
}

// part is what one request stores.
type part struct {
	copied bool // pieces has one, a range that the store copies itself
	pieces []piece
	size   int64
}

// planner cuts a stream of pieces into parts. A part is uploaded, or is one
// contiguous range that the store copies; every part but the last must have
// five MiB. Bytes that are uploaded cost once, ranges that are fetched to be
// uploaded cost twice, copies cost nothing. So:
//
//   - ranges shorter than a part join the uploads around them;
//   - an upload that is too short takes what it lacks from the end of the copy
//     before it, or else from the beginning of the one after it: the one before
//     is of no more use to anybody, so this never makes a later choice worse;
//   - where neither can spare it, the shorter of the two copies is dissolved.
//
// It needs to look no further than one copy ahead, so a short upload and two
// ranges are all that it holds back, whatever the object's size.
type planner struct {
	emit  func(part)
	left  piece   // a copy that is long enough, not yet emitted; n = 0: none
	up    []piece // the upload behind it
	upLen int64
	parts int
}

// least is the part size to keep to: it grows so that huge objects stay within
// ten thousand parts.
func (p *planner) least() int64 {
	switch {
	case p.parts < maxParts/2:
		return minPart
	case p.parts < maxParts*3/4:
		return 4 * bigPart
	}
	return 32 * bigPart
}

func (p *planner) full() int64 { return max(bigPart, p.least()) }

// bytes adds bytes to upload; the planner keeps the slice.
func (p *planner) bytes(data []byte) {
	p.push(piece{data: data, n: int64(len(data))})
	if p.upLen >= p.full() {
		p.flush()
	}
}

// span adds a range of a stored object.
func (p *planner) span(r piece) {
	if r.n == 0 {
		return
	}
	// A range that goes on where the last one ended is the same range.
	if k := len(p.up) - 1; k >= 0 && r.follows(p.up[k]) {
		r.off, r.n = p.up[k].off, r.n+p.up[k].n
		p.upLen -= p.up[k].n
		p.up = p.up[:k]
	} else if k < 0 && p.left.n > 0 && r.follows(p.left) {
		p.left.n += r.n
		return
	}
	if r.n < p.least() {
		p.push(r)
		if p.upLen >= p.full() {
			p.flush()
		}
		return
	}
	p.settle(&r)
	if r.n > 0 {
		p.left = r
	}
}

func (p *planner) push(x piece) {
	p.up = append(p.up, x)
	p.upLen += x.n
}

// settle emits what stands before the long copy r, which may lose its head to
// it, or be dissolved into it altogether (then r.n is 0).
func (p *planner) settle(r *piece) {
	lack := p.least() - p.upLen
	switch {
	case p.upLen == 0 || lack <= 0:
	case p.left.n-lack >= p.least():
		p.takeTail(lack)
	case r.n-lack >= p.least():
		head := *r
		head.n = lack
		p.push(head)
		r.off, r.n = r.off+lack, r.n-lack
	case p.left.n == 0 || r.n <= p.left.n:
		p.push(*r)
		r.n = 0
		if p.upLen < p.full() {
			return // more may join
		}
	default:
		p.takeTail(p.left.n)
	}
	p.flush()
}

// takeTail moves the last n bytes of the held copy to the front of the upload.
func (p *planner) takeTail(n int64) {
	tail := p.left
	tail.off, tail.n = tail.off+tail.n-n, n
	p.left.n -= n
	p.up = append([]piece{tail}, p.up...)
	p.upLen += n
}

// flush emits the held copy and the upload behind it.
func (p *planner) flush() {
	p.emitCopy()
	if p.upLen > 0 {
		p.send(part{pieces: p.up, size: p.upLen})
		p.up, p.upLen = nil, 0
	}
}

// emitCopy emits the held copy, in parts of about equal size.
func (p *planner) emitCopy() {
	for k := (p.left.n + bigCopy - 1) / bigCopy; k > 0; k-- {
		x := p.left
		x.n = p.left.n / k
		p.left.off, p.left.n = p.left.off+x.n, p.left.n-x.n
		p.send(part{copied: true, pieces: []piece{x}, size: x.n})
	}
	p.left = piece{}
}

func (p *planner) send(x part) {
	p.parts++
	p.emit(x)
}

// end emits the rest: the last part may be short.
func (p *planner) end() { p.flush() }
