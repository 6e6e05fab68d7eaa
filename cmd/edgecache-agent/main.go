// Command edgecache-agent holds the images of one node to the wish.
package main

import (
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
)

func main() {
	code := 0
	if err := cli.RunNoErrOutput(newCommand(&code)); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}
