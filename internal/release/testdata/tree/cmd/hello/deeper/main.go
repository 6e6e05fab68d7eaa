// Command deeper belongs to hello.
package main

func main() {}
