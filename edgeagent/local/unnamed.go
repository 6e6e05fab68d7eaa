package local

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Where no file can be made in the state directory, as on a disk that has gone read-only, the
// socket is one of the kernel's abstract names. These have no mode: both ends look who the other
// one is instead.

var errStranger = errors.New("neither root nor the user of this program is at the other end")

// unnamed gives the abstract address for a state directory.
func unnamed(stateDir string) string {
	if absolute, err := filepath.Abs(stateDir); err == nil {
		stateDir = absolute
	}
	return fmt.Sprintf("@edgecache-agent-%x", sha256.Sum256([]byte(stateDir)))
}

// known says whether root, or the user of this program, is at the other end of a socket.
func known(conn net.Conn) error {
	end, ok := conn.(syscall.Conn)
	if !ok {
		return errStranger
	}
	raw, err := end.SyscallConn()
	if err != nil {
		return err
	}
	var who *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		who, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || asked != nil {
		return errors.Join(err, asked)
	}
	if who.Uid != 0 && int(who.Uid) != os.Geteuid() {
		return errStranger
	}
	return nil
}

// guarded lets nobody in who is not known.
type guarded struct{ net.Listener }

// Accept gives the next connection of somebody who is.
func (g guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil || known(conn) == nil {
			return conn, err
		}
		_ = conn.Close()
	}
}
