package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type point struct{ x, y float64 }

// series is a line of a picture.
type series struct {
	name, colour string
	points       []point
	flat         bool // one level over the whole width
}

// chart is a picture with linear axes from zero.
type chart struct {
	title, x, y string
	lines       []series
}

const (
	chartWidth, chartHeight = 760, 400
	left, right             = 60, 190
	top, bottom             = 40, 50
)

// step is a round distance of at most n marks up to a value.
func step(limit float64, n int) float64 {
	raw := limit / float64(n)
	base := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*base >= raw {
			return m * base
		}
	}
	return 10 * base
}

func (c *chart) limits() (x, y float64) {
	for _, s := range c.lines {
		for _, p := range s.points {
			x, y = max(x, p.x), max(y, p.y)
		}
	}
	return max(x, 1), max(y, 0.1) * 1.05
}

// svg draws the chart. Colours are readable on light and dark pages.
func (c *chart) svg() string {
	var b strings.Builder
	maxX, maxY := c.limits()
	px := func(v float64) float64 { return left + v/maxX*(chartWidth-left-right) }
	py := func(v float64) float64 { return chartHeight - bottom - v/maxY*(chartHeight-top-bottom) }
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#7a7a7a">`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&b, `<text x="%d" y="22" font-size="15">%s</text>`+"\n", left, c.title)
	for v := 0.0; v <= maxY; v += step(maxY, 6) {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#7a7a7a" stroke-opacity=".25"/><text x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n", left, py(v), chartWidth-right, left-6, py(v)+4, v)
	}
	for v := 0.0; v <= maxX*1.0001; v += step(maxX, 8) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.4g</text>`+"\n", px(v), chartHeight-bottom+18, v)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", left+(chartWidth-left-right)/2, chartHeight-12, c.x)
	fmt.Fprintf(&b, `<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", top+(chartHeight-top-bottom)/2, c.y)
	for _, s := range c.lines {
		s.draw(&b, maxX, px, py)
	}
	return b.String() + "</svg>\n"
}

func (s *series) draw(b *strings.Builder, maxX float64, px, py func(float64) float64) {
	if len(s.points) == 0 {
		return
	}
	points := slices.SortedFunc(slices.Values(s.points), func(a, b point) int { return cmp.Compare(a.x, b.x) })
	dash := ""
	if s.flat {
		points, dash = []point{{0, points[0].y}, {maxX, points[0].y}}, ` stroke-dasharray="5 4"`
	}
	var path []string
	for _, p := range points {
		path = append(path, fmt.Sprintf("%.1f %.1f", px(p.x), py(p.y)))
		if !s.flat {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", px(p.x), py(p.y), s.colour)
		}
	}
	fmt.Fprintf(b, `<path d="M%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(path, "L"), s.colour, dash)
	last := points[len(points)-1]
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", px(last.x)+8, py(last.y)+4, s.colour, s.name)
}

const (
	green, blue, red, grey = "#2f9e6e", "#3b7dd8", "#d1583f", "#8a8a8a"
)

func writePictures(dir string, all *results) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, c := range map[string]*chart{"bench-share.svg": shareChart(all), "bench-size.svg": sizeChart(all)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// shareChart is the cost of the zstd file against the share of touched pages.
func shareChart(all *results) *chart {
	ours, cp := series{name: "expunge", colour: green}, series{name: "cp", colour: grey}
	best, plain := series{name: "DuckDB, best setting", colour: blue}, series{name: "DuckDB, default", colour: red}
	for _, r := range all.of(kindRewrite) {
		if !strings.HasPrefix(r.Case, "zstd-") {
			continue
		}
		x := r.share()
		ours.points = append(ours.points, point{x, r.mid(peerOurs, cpu)})
		cp.points = append(cp.points, point{x, r.mid(peerCp, cpu)})
		best.points = append(best.points, point{x, r.mid(peerBest, cpu)})
		plain.points = append(plain.points, point{x, r.mid(peerDuck, cpu)})
	}
	return &chart{"Erasing rows from a 1 GB zstd file", "pages touched, %", "CPU seconds", []series{plain, best, ours, cp}}
}

// sizeChart is the cost against the file's size.
func sizeChart(all *results) *chart {
	one, share, cp := series{name: "one row", colour: green}, series{name: "a fifth of the pages", colour: blue}, series{name: "cp", colour: grey}
	for _, r := range all.of(kindSize) {
		x := float64(r.Source) / 1e9
		one.points = append(one.points, point{x, r.mid(peerOne, cpu)})
		share.points = append(share.points, point{x, r.mid(peerShare, cpu)})
		cp.points = append(cp.points, point{x, r.mid(peerCp, cpu)})
	}
	return &chart{"Erasing rows from files of 0.1 to 4 GB (zstd)", "file, GB", "CPU seconds", []series{share, one, cp}}
}
