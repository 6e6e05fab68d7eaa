// Package realtest holds the tests of drivers that need a real runtime: the conformance
// suite over containerd's own API, and over CRI on containerd, CRI-O, and Docker behind
// cri-dockerd; and what happens when containerd is killed, restarted or damaged. It has no
// code besides tests.
//
// Each test starts a runtime of its own, in its own mount and PID namespace, with its
// own directories and sockets: nothing of it is left when the test ends, however it ends.
// No container is run, so no network is needed, but root is, and for CRI-O and Docker what
// they look for when they start (runc, conmon). Without them
// the tests are skipped, or fail where EDGECACHE_REQUIRE_E2E=1 says that they must run.
package realtest
