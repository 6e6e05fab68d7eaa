package main

import "k8s.io/component-base/version"

func main() { version.Print() }
