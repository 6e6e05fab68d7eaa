// Package realtest holds the tests of drivers that need a real containerd: the conformance
// suite over its own API and over CRI, and what happens when it is killed, restarted or
// damaged. It has no code besides tests.
//
// Each test starts a containerd of its own, in its own mount and PID namespace, with its
// own directories and sockets: nothing of it is left when the test ends, however it ends.
// No container is run, so neither runc nor a network is needed, but root is. Without root
// the tests are skipped, or fail where EDGECACHE_REQUIRE_E2E=1 says that they must run.
package realtest
