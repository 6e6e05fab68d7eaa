//go:build unix

package dialguard

import "golang.org/x/sys/unix"

// setReadBuffer asks the kernel for a small receive buffer.
func setReadBuffer(fd uintptr, size int) {
	_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
}
