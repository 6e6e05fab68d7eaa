package manifest

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

// Kind is the kind of all documents.
const Kind = "ImageCache"

// Parse reads the ImageCaches of a file: YAML or JSON, several documents with --- between
// them. It holds them to the rules of the API and fills in its defaults; without a namespace
// they are in "default". The error names the file, and of each document what is wrong: its
// place in the file, its name, and the field with its value and what to do.
func Parse(file string, data []byte) ([]*v1alpha1.ImageCache, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var caches []*v1alpha1.ImageCache
	var wrong []error
	seen := map[wish.Owner]bool{}
	for place := 1; ; place++ {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var ic *v1alpha1.ImageCache
		if err == nil {
			ic, err = parseDocument(text)
		}
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%s, document %d: %w", file, place, err))
		case ic == nil:
		case seen[wish.OwnerOf(ic)]:
			wrong = append(wrong, fmt.Errorf("%s, document %d: ImageCache %s stands in this file twice: give one of them another name", file, place, wish.OwnerOf(ic)))
		default:
			seen[wish.OwnerOf(ic)] = true
			caches = append(caches, ic)
		}
	}
	if len(caches) == 0 && len(wrong) == 0 {
		wrong = append(wrong, fmt.Errorf("%s has no ImageCache in it: remove the file to give its images up", file))
	}
	return caches, errors.Join(wrong...)
}

// parseDocument gives nil for a document that is empty.
func parseDocument(text []byte) (*v1alpha1.ImageCache, error) {
	b, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("not YAML or JSON: %w", err)
	}
	if bytes.Equal(b, []byte("null")) {
		return nil, nil
	}
	if err := checkKind(b); err != nil {
		return nil, err
	}
	ic := &v1alpha1.ImageCache{}
	if errs := checkText(b); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	strict, err := json.UnmarshalStrict(b, ic)
	ic.Namespace = cmp.Or(ic.Namespace, metav1.NamespaceDefault)
	if err = errors.Join(append(strict, err)...); err != nil {
		return nil, fmt.Errorf("ImageCache %s: %w", wish.OwnerOf(ic), err)
	}
	if errs := validate(ic); len(errs) > 0 {
		return nil, fmt.Errorf("ImageCache %s: %w", wish.OwnerOf(ic), errs.ToAggregate())
	}
	setDefaults(ic)
	return ic, nil
}

// checkKind says so where a document is something else: its fields would make no sense.
func checkKind(b []byte) error {
	var of struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := json.UnmarshalCaseSensitivePreserveInts(b, &of); err != nil {
		return fmt.Errorf("not an object with apiVersion and kind: %w", err)
	}
	if want := v1alpha1.SchemeGroupVersion.String(); of.APIVersion != want || of.Kind != Kind {
		return fmt.Errorf("apiVersion %q and kind %q are not read here: write apiVersion: %s and kind: %s", of.APIVersion, of.Kind, want, Kind)
	}
	return nil
}
