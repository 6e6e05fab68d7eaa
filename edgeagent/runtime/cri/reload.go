package cri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processOf gives the process that listens on a socket. It fails where that is in a PID
// namespace which is not ours to see.
func processOf(ctx context.Context, socket string) (pid int, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(socket, "unix://"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%s is no unix socket", socket)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	if peer.Pid == 0 {
		return 0, errors.New("the runtime is in another PID namespace (a pod needs hostPID: true)")
	}
	return int(peer.Pid), nil
}

// hangUp sends SIGHUP to a process that handles it: to any other it would be the end.
func hangUp(pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	if !catches(string(status), unix.SIGHUP) {
		return fmt.Errorf("process %d does not handle SIGHUP (yet)", pid)
	}
	return unix.Kill(pid, unix.SIGHUP)
}

// catches says whether a process handles a signal, by its /proc/PID/status.
func catches(status string, signal unix.Signal) bool {
	for line := range strings.Lines(status) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			caught, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && caught&(1<<(signal-1)) != 0
		}
	}
	return false
}
