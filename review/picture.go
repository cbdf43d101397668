package review

// picture is the chart of outcomes by day: columns in a box of 1000 by 100.
type picture struct {
	Columns     []column
	Most        int
	First, Last string
	Totals      [4]int
}

type column struct {
	Title string
	Parts []columnPart
}

type columnPart struct {
	X, Y, W, H int
	Class      string
}

// classes tell the outcomes apart by fill and outline, not by hue alone.
var classes = [4]string{"c-good", "c-wait", "c-bad", "c-none"}

func newPicture(days []day) picture {
	var p picture
	for _, d := range days {
		n := 0
		for i, c := range d.Counts {
			n += c
			p.Totals[i] += c
		}
		p.Most = max(p.Most, n)
	}
	if p.Most == 0 {
		return p
	}
	p.First, p.Last = dayOf(days[0].Date), dayOf(days[len(days)-1].Date)
	width := 1000 / len(days)
	for i, d := range days {
		col := column{Title: dayOf(d.Date)}
		top := 100
		for k, c := range d.Counts {
			if c == 0 {
				continue
			}
			h := max(2, c*100/p.Most)
			top = max(0, top-h)
			col.Parts = append(col.Parts, columnPart{X: i*width + width/8, Y: top, W: width * 3 / 4, H: h, Class: classes[k]})
			col.Title += ": " + number(c) + " " + [4]string{"complete", "pending or reverted", "failed or not complete", "without outcome"}[k]
		}
		p.Columns = append(p.Columns, col)
	}
	return p
}
