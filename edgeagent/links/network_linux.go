package links

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"edgecache.dev/internal/pause"
)

// merge is how long changes of the network are gathered: one link that comes up changes
// several routes.
const merge = time.Second

// NetworkChanges gives a channel on which a hint comes when links, addresses or routes of
// this node's network changed. Where the system does not tell nothing comes.
func NetworkChanges(ctx context.Context) <-chan struct{} {
	hints := make(chan struct{}, 1)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err == nil {
		groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV6_ROUTE)
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	}
	if err != nil {
		klog.FromContext(ctx).V(1).Info("Changes of the network are not told", "err", err)
		return hints
	}
	// A read must end now and then to see that nobody listens any more.
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	go func() {
		defer func() { _ = unix.Close(fd) }()
		buf := make([]byte, 8<<10)
		for ctx.Err() == nil {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if err != nil && err != unix.ENOBUFS || n == 0 && err == nil { // ENOBUFS: many changes
				return
			}
			if !pause.For(ctx, merge) {
				return
			}
			select {
			case hints <- struct{}{}:
			default:
			}
		}
	}()
	return hints
}
