package render

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/registrycheck"
	"edgecache.dev/registrycheck/extract"
	"edgecache.dev/registrycheck/lock"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func finding(reason registrycheck.Reason, message, fix, url string) registrycheck.Finding {
	return registrycheck.Finding{Verdict: reason.Verdict(), Reason: reason, Message: message, Fix: fix, URL: url}
}

// full is a report with all that there can be.
func full() *Report {
	good := finding(registrycheck.ReasonAvailable, "", "", "")
	gone := finding(registrycheck.ReasonBlobMissing, "layer "+digestB+" is not there", "push the image again", "https://registry.example/v2/app/blobs/"+digestB)
	late := finding(registrycheck.ReasonTimeout, "no answer within 30s", "", "")
	none := finding(registrycheck.ReasonPlatformMissing, "nothing for linux/arm/v7", "build it for linux/arm/v7", "")
	images := []Image{
		{Result: registrycheck.Result{
			Reference: "registry.example/app:v1", Finding: good, Digest: digestA, Host: "registry.example", Size: 12_345_678,
			Platforms: []registrycheck.Platform{
				{Platform: "linux/amd64", Finding: good, Digest: digestA, Size: 6_000_000, Layers: []registrycheck.Layer{{Digest: digestB, MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Size: 5_999_000}}},
				{Platform: "linux/arm64", Finding: good, Digest: digestB, Size: 6_345_678},
			},
		}, Sources: []extract.Source{{File: "deploy/app.yaml", Line: 12, Kind: "Deployment", Namespace: "retail", Name: "app", Field: "spec.template.spec.containers[0].image", Template: "shop/templates/app.yaml"}}},
		{Result: registrycheck.Result{
			Reference: "registry.example/<b>|`x`:v2", Finding: gone, Digest: digestB, Size: 10,
			Platforms: []registrycheck.Platform{{Platform: "linux/amd64", Finding: gone}, {Platform: "linux/arm64", Finding: gone}, {Platform: "linux/arm/v7", Finding: none}, {Platform: "linux/386", Finding: good}},
		}, Sources: []extract.Source{
			{File: "-", Line: 3, Kind: "Pod", Name: "p", Field: "spec.containers[0].image"}, {File: "a,b:c%.yaml", Line: 4, Kind: "Pod", Name: "q", Field: "spec.containers[0].image"},
			{Kind: "Pod", Name: "r"}, {Kind: "Pod", Name: "s"},
		}},
		{Result: registrycheck.Result{Reference: "slow.example/app\x1b[31m\n::error::x", Finding: late}, Sources: []extract.Source{{Field: "argument 1"}}},
	}
	return &Report{
		Images: images, Notes: []string{"pod.yaml:9 Pod p spec.containers[0].image: local is not checked: by imagePullPolicy: Never nodes do not pull it"},
		Errors:    []InputError{{File: "broken.yaml", Line: 7, Message: "not YAML or JSON: did not find expected key"}, {File: "gone.yaml", Message: "no such file or directory"}},
		Drift:     []lock.Drift{{Reference: "registry.example/app:v1", Locked: digestB, Now: digestA, Message: "stood for " + digestB + " and stands for " + digestA + " now"}},
		Downloads: []lock.Download{{Group: "linux/arm64", Images: 1, Layers: 2, Bytes: 3_400_000}, {Group: "linux/amd64"}},
		Summary:   registrycheck.NewReport([]registrycheck.Result{images[0].Result, images[1].Result, images[2].Result}).Summary,
	}
}

func render(t *testing.T, form string, r *Report) []byte {
	t.Helper()
	f, err := ParseForm(form)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, f, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestForms holds each form to a file. Nothing that acts on a terminal or a workflow is in
// any of them.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, form := range Forms() {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			got := render(t, form, full())
			path := filepath.Join("testdata", "full."+form)
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got), UPDATE_GOLDEN=1 writes it anew:\n%s", path, diff)
			}
			if bytes.ContainsRune(got, '\x1b') || bytes.Contains(got, []byte("\n::error::x")) {
				t.Errorf("what an image is called gets through:\n%s", got)
			}
		})
	}
}

// TestNothing: a report of no images is whole in each form.
func TestNothing(t *testing.T) {
	t.Parallel()
	for _, form := range Forms() {
		if got := render(t, form, &Report{Summary: registrycheck.NewReport(nil).Summary}); len(got) == 0 {
			t.Errorf("%s: nothing", form)
		}
	}
	var r map[string]any
	if err := json.Unmarshal(render(t, "json", &Report{}), &r); err != nil || r["images"] == nil {
		t.Errorf("%v, %v, want an empty list of images", r, err)
	}
}

// TestJUnitCounts: what readers add up is what there is.
func TestJUnitCounts(t *testing.T) {
	t.Parallel()
	d := xml.NewDecoder(bytes.NewReader(render(t, "junit", full())))
	elements := map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
		}
	}
	want := map[string]int{"testsuites": 1, "testsuite": 3, "testcase": 6, "failure": 2, "error": 3, "system-out": 3}
	if diff := cmp.Diff(want, elements); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
	var s junitSuites
	if err := xml.Unmarshal(render(t, "junit", full()), &s); err != nil || s.Tests != 6 || s.Failures != 2 || s.Errors != 3 {
		t.Errorf("%d tests, %d failures, %d errors, %v", s.Tests, s.Failures, s.Errors, err)
	}
}

// TestSARIFStructure: what the standard demands of each object, and that indices and
// levels are such (SARIF 2.1.0, 3.13, 3.14, 3.19, 3.27, 3.28, 3.30).
func TestSARIFStructure(t *testing.T) {
	t.Parallel()
	var log sarifLog
	d := json.NewDecoder(bytes.NewReader(render(t, "sarif", full())))
	d.DisallowUnknownFields()
	if err := d.Decode(&log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name == "" {
		t.Fatalf("log: %+v", log)
	}
	run := log.Runs[0]
	if len(run.Results) != 10 {
		t.Errorf("%d results, want 4 places of 2 findings, 1 more and the drift", len(run.Results))
	}
	for _, r := range run.Results {
		if r.RuleIndex < 0 || r.RuleIndex >= len(run.Tool.Driver.Rules) || run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("rule %d is not %s", r.RuleIndex, r.RuleID)
		}
		if r.Level != "error" && r.Level != "warning" || r.Message.Text == "" {
			t.Errorf("result %+v", r)
		}
		for _, l := range r.Locations {
			if p := l.Physical; p != nil && (p.Artifact.URI == "" || strings.ContainsAny(p.Artifact.URI, " ,") && !strings.Contains(p.Artifact.URI, ",") || p.Region != nil && p.Region.StartLine < 1) {
				t.Errorf("location %+v", p)
			}
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	p := NewProgress(&b, 2, 30)
	p.Done(registrycheck.Result{Finding: registrycheck.Finding{Verdict: registrycheck.Pullable}})
	p.Done(registrycheck.Result{Finding: registrycheck.Finding{Verdict: registrycheck.NotPullable}})
	p.End()
	want := []string{"", "0 of 2 images checked", "1 of 2 images checked", "2 of 2 images checked, 1 not ", ""}
	if diff := cmp.Diff(want, strings.Split(b.String(), clearLine)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestUnknownForm(t *testing.T) {
	t.Parallel()
	if _, err := ParseForm("xml"); err == nil || !strings.Contains(err.Error(), "markdown") {
		t.Errorf("error %v, want one that names the forms", err)
	}
}
