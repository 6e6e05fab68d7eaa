package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRowsAreDocumented: the tests of features that users of kube-fledged know, and the
// document that names them, are of the same features.
func TestRowsAreDocumented(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "test/integration/*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	runtimes, err := filepath.Glob(filepath.Join(root, "edgeagent/runtime/realtest/*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := matches(t, regexp.MustCompile(`(?m)^func Test(F\d\d\w+)\(|name: "(F\d\d\w+)"`), append(files, runtimes...)...)
	documented := matches(t, regexp.MustCompile("`Test(F\\d\\d\\w+)`|`TestRows/(F\\d\\d\\w+)`"), filepath.Join(root, "docs/coming-from-kube-fledged.md"))
	if diff := cmp.Diff(tests, documented); diff != "" || len(tests) != 31 {
		t.Errorf("%d rows are tested, want F1–F29, F20 three times (-tested +documented):\n%s", len(tests), diff)
	}
}

// matches gives what the groups of an expression match in files, sorted.
func matches(t *testing.T, expression *regexp.Regexp, files ...string) []string {
	t.Helper()
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, groups := range expression.FindAllStringSubmatch(string(text), -1) {
			found = append(found, groups[1]+groups[2])
		}
	}
	slices.Sort(found)
	return found
}
