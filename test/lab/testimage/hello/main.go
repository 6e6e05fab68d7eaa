// Command hello is a workload: it prints a line and runs until it is told to end.
//
//	hello              runs until SIGTERM
//	hello -for 2s      ends by itself, with the status that -status says
//	hello -dial H:P    also prints whether that address takes connections
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

// run does what the flags say and returns the exit status.
func run() int {
	flags := flag.NewFlagSet("hello", flag.ExitOnError)
	lifetime := flags.Duration("for", 0, "end after this `duration`; 0 runs until SIGTERM")
	status := flags.Int("status", 0, "exit `status` after -for has passed")
	dial := flags.String("dial", "", "print whether this `address` takes connections")
	// It exits on an error.
	_ = flags.Parse(os.Args[1:])

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	host, _ := os.Hostname()
	fmt.Printf("hello from %s\n", host)
	if *dial != "" {
		conn, err := net.DialTimeout("tcp", *dial, time.Minute)
		fmt.Printf("dialled %s: %v\n", *dial, err)
		if err == nil {
			_ = conn.Close()
		}
	}
	var over <-chan time.Time
	if *lifetime > 0 {
		over = time.After(*lifetime)
	}
	select {
	case <-ctx.Done():
		fmt.Println("told to end")
	case <-over:
		return *status
	}
	return 0
}
