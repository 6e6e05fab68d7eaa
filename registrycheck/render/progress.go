package render

import (
	"fmt"
	"io"

	"edgecache.dev/registrycheck"
)

// Progress tells on a terminal, in one line that is written again and again, how many
// images have been checked, and how many were found wrong. One goroutine at a time.
type Progress struct {
	w                   io.Writer
	all, done           int
	wrong, inconclusive int
	width               int
}

// clearLine goes to the beginning of the line and empties it.
const clearLine = "\r\x1b[K"

// NewProgress begins the line. w is a terminal of width columns.
func NewProgress(w io.Writer, images, width int) *Progress {
	p := &Progress{w: w, all: images, width: max(width, 20)}
	p.show()
	return p
}

// Done counts an image.
func (p *Progress) Done(r registrycheck.Result) {
	p.done++
	switch r.Verdict {
	case registrycheck.NotPullable:
		p.wrong++
	case registrycheck.Inconclusive:
		p.inconclusive++
	case registrycheck.Pullable:
	}
	p.show()
}

// End takes the line away.
func (p *Progress) End() { _, _ = io.WriteString(p.w, clearLine) }

func (p *Progress) show() {
	line := fmt.Sprintf("%d of %d images checked", p.done, p.all)
	if p.wrong > 0 {
		line += fmt.Sprintf(", %d not pullable", p.wrong)
	}
	if p.inconclusive > 0 {
		line += fmt.Sprintf(", %d inconclusive", p.inconclusive)
	}
	if len(line) >= p.width {
		line = line[:p.width-1]
	}
	_, _ = io.WriteString(p.w, clearLine+line) // a terminal that is gone shows nothing
}
