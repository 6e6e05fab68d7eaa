package hostglob

import (
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
)

// Match says whether host, "name" or "name:port", is one that pattern stands for. Case
// counts, as in the kubelet. A malformed pattern matches nothing; see Check.
func Match(pattern, host string) bool {
	wantName, wantPort := split(pattern)
	name, port := split(host)
	want, labels := strings.Split(wantName, "."), strings.Split(name, ".")
	if wantPort != port || len(want) != len(labels) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], labels[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// Check says what is wrong with a pattern that a user wrote, nil when nothing is.
func Check(pattern string) error {
	name, port := split(pattern)
	switch {
	case pattern == "":
		return errors.New("must not be empty: write a host such as registry.example:5000 or *.corp.example")
	case strings.Contains(pattern, "://"):
		return errors.New("must be a host without a scheme: write registry.example:5000")
	case strings.ContainsAny(pattern, "/?#@ \t\r\n"):
		return errors.New("must be a host alone, without path, user or spaces: write registry.example:5000")
	}
	if net.ParseIP(name) == nil && (strings.ContainsRune(name, ':') || strings.HasSuffix(pattern, ":")) {
		return errors.New("must have at most one port: write registry.example:5000 or [fd00::1]:5000")
	}
	if err := checkLabels(name); err != nil {
		return err
	}
	if n, err := strconv.Atoi(port); port != "" && (err != nil || n < 1 || n > 65535) {
		return fmt.Errorf("port %q must be a number from 1 to 65535", port)
	}
	return nil
}

func checkLabels(name string) error {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return errors.New("must not have empty labels: write *.corp.example for all hosts of a domain")
		}
		if _, err := path.Match(label, ""); err != nil {
			return fmt.Errorf("label %q is not a valid pattern: only *, ? and [a-z] have a meaning", label)
		}
	}
	return nil
}

// split cuts the port off. The brackets of an IPv6 address go too, with or without a
// port: in a pattern they would mean a set of characters.
func split(host string) (name, port string) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		return name, port
	}
	if inner, ok := strings.CutPrefix(host, "["); ok && net.ParseIP(strings.TrimSuffix(inner, "]")) != nil {
		return strings.TrimSuffix(inner, "]"), ""
	}
	return host, ""
}
