// Package port reserves TCP ports for the lab's servers.
//
// It owns the answer to "which port is free, and still is when the server gets to it": a reservation binds the port
// with SO_REUSEPORT and never listens, so the kernel gives it to nobody else, while a server that sets SO_REUSEPORT too
// (kube-apiserver --permit-port-sharing, etcd --socket-reuse-port, [Reservation.Listen]) can bind it, end, and bind it
// again. While none listens, clients are refused at once.
//
// It never hands out a port it does not hold. A reservation ends with Close or with this process.
package port
