package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/store"
)

// TestDump shows a store in each form, while its agent runs and after, and nothing of what is sealed.
func TestDump(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _, err := store.Open(t.Context(), dir, "n1", func(context.Context, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	sealed := []byte("sealed-bytes")
	wish := store.Desired{UID: "u", Generation: 3, Known: true, Spec: v1alpha1.NodeImageCacheSpec{
		Images:      []v1alpha1.NodeImage{{Name: "r.io/app:v1", Digest: "sha256:x"}},
		Credentials: []v1alpha1.SealedCredential{{ID: "cred-1", Sealed: sealed}},
	}, HeldCredentials: []v1alpha1.SealedCredential{{ID: "cred-2", Sealed: sealed}}}
	now := time.Now()
	err = s.Write(store.Change{Desired: &wish, Boot: "boot-1", Save: []store.Entry{{Name: "r.io/app:v1", Failure: &store.Failure{Reason: "NotFound", Since: now}, Lost: &now}},
		Notes: []store.Record{{Time: now, Kind: store.ImageFailing, Image: "r.io/app:v1", Reason: "NotFound", Doubtful: true}}})
	if err != nil {
		t.Fatal(err)
	}
	running := dump(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after := dump(t, dir)
	for format, text := range running {
		if text != after[format] {
			t.Errorf("%s of a running agent's store:\n%s\nafter that:\n%s", format, text, after[format])
		}
		for _, want := range []string{"n1", "boot-1", "r.io/app:v1", "NotFound", "ImageFailing"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", format, want, text)
			}
		}
		if strings.Contains(text, base64.StdEncoding.EncodeToString(sealed)) || strings.Contains(text, "sealed-bytes") {
			t.Errorf("%s shows what is sealed:\n%s", format, text)
		}
	}
	var fromJSON, fromYAML store.Dump
	if err := errors.Join(json.Unmarshal([]byte(after["json"]), &fromJSON), yaml.Unmarshal([]byte(after["yaml"]), &fromYAML)); err != nil {
		t.Fatal(err)
	}
	if fromJSON.Wish.Credentials[1] != "cred-2" || fromYAML.Wish.Generation != 3 || fromYAML.Wish.UID != "u" {
		t.Errorf("%+v, %+v", fromJSON.Wish, fromYAML.Wish)
	}
}

func dump(t *testing.T, dir string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, format := range []string{"table", "json", "yaml"} {
		var out bytes.Buffer
		cmd := newDump()
		cmd.SetOut(&out)
		cmd.SetArgs([]string{filepath.Join(dir, store.FileName), "-o", format})
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		texts[format] = out.String()
	}
	return texts
}

// TestDumpRefuses what it cannot show, by name.
func TestDumpRefuses(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none.db")
	for args, want := range map[string]string{missing: "no such file", missing + " -o xml": `--output "xml"`} {
		cmd := newDump()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(strings.Fields(args))
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("dump %s: %v, want %s", args, err, want)
		}
	}
}
