// Package pullscope says what a pull credential is for, the way the kubelet does.
//
// It owns one rule: a scope is host[:port][/path], as the keys of a docker configuration
// name it. The host may be a glob for each label, the port must be equal, the path is a
// plain prefix ("/team" also covers "/teamwork"). The controller picks credentials by it,
// and agents check by it before a credential leaves the node.
//
// It never sees a credential, reads nothing and keeps no state.
package pullscope
