package inventory

// bits is a set of node numbers.
type bits []uint64

func (b bits) has(n int) bool {
	w := n >> 6
	return w < len(b) && b[w]&(1<<(n&63)) != 0
}

func (b *bits) add(n int) {
	for len(*b) <= n>>6 {
		*b = append(*b, 0)
	}
	(*b)[n>>6] |= 1 << (n & 63)
}

func (b bits) remove(n int) {
	if w := n >> 6; w < len(b) {
		b[w] &^= 1 << (n & 63)
	}
}

// join adds what is in other.
func (b *bits) join(other bits) {
	if missing := len(other) - len(*b); missing > 0 {
		*b = append(*b, make(bits, missing)...)
	}
	for i, w := range other {
		(*b)[i] |= w
	}
}

func (b bits) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}
