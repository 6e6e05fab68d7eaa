// Package hostglob matches registry hosts against patterns the way the kubelet does.
//
// It owns one rule: pattern and host have the same port and the same number of labels,
// and each label matches as a shell pattern ("*.corp.example:5000"). A star never spans
// a dot, so a pattern for one level of a domain never hands a credential to a deeper one.
//
// It never looks at paths, schemes or DNS, and keeps no state.
package hostglob
