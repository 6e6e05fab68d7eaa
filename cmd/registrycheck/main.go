// Command registrycheck says whether nodes could pull images, before they have to.
package main

import (
	"fmt"
	"os"
)

func main() {
	code := exitPullable
	if err := newCommand(&code, os.Getenv).Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		code = exitUsage
	}
	os.Exit(code)
}
