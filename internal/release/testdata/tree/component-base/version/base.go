// Package version has the variables of the package that it stands in for.
package version

import "fmt"

var (
	gitMajor, gitMinor               string
	gitVersion, gitCommit, buildDate string
	gitTreeState                     string
)

// Print writes one line for each variable.
func Print() {
	fmt.Printf("version=%s\ncommit=%s\nstate=%s\ndate=%s\nmajor=%s minor=%s\n",
		gitVersion, gitCommit, gitTreeState, buildDate, gitMajor, gitMinor)
}
