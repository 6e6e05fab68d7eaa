package controlplane

import (
	"strings"
	"testing"
)

func TestDecodeSkipsEmptyDocuments(t *testing.T) {
	t.Parallel()
	objects, err := decode([]byte("# a comment only\n---\nkind: A\n---\n---\nkind: B\nmetadata: {name: b}\n"))
	if err != nil || len(objects) != 2 || objects[0].GetKind() != "A" || objects[1].GetName() != "b" {
		t.Errorf("got %v, %v", objects, err)
	}
	_, err = decode([]byte("kind: A\n---\nkind: [\n"))
	if err == nil || !strings.Contains(err.Error(), "document 2") {
		t.Errorf("got %v, want the number of the bad document", err)
	}
}

func TestFailingChecks(t *testing.T) {
	t.Parallel()
	const verbose = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]poststarthook/rbac failed: x\nreadyz check failed\n"
	if got, want := failingChecks(verbose), "etcd failed: reason withheld; poststarthook/rbac failed: x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := failingChecks("starting\n"); got != "starting" {
		t.Errorf("got %q", got)
	}
}
