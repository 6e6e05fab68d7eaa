// Package arch holds the repository to its architecture: who may import whom, and the
// habits that a compiler does not check.
package arch

import (
	"bufio"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module = "edgecache.dev/"
	root   = "../.."
)

// pkg is what the go command says of a package.
type pkg struct {
	ImportPath, Name, Doc                       string
	Imports, TestImports, XTestImports, GoFiles []string
}

// path is the import path within the module.
func (p *pkg) path() string { return strings.TrimPrefix(p.ImportPath, module) }

// in says whether a path is a folder or below it.
func in(path string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

// rule says which folders may import what matches.
type rule struct {
	what  *regexp.Regexp
	where []string
	why   string
}

// testing helpers that stand beside the interface they test.
var helpers = regexp.MustCompile(`^edgecache\.dev/.*/(fetchtest|runtimetest|realtest)$`)

// only lists imports that are allowed in some folders only. Tests may import anything.
var only = []rule{
	{regexp.MustCompile(`^k8s\.io/kubernetes/`), []string{"cmd/edgecache-scheduler"}, "the scheduler is the only program built from Kubernetes itself"},
	{regexp.MustCompile(`^go\.etcd\.io/bbolt`), []string{"edgeagent/store"}, "the store owns its file format"},
	{regexp.MustCompile(`^github\.com/spf13/viper`), []string{"cmd"}, "packages take typed settings"},
	{regexp.MustCompile(`^github\.com/containerd/containerd/`), []string{"edgeagent", "cmd/edgecache-agent"}, "only agents meet a runtime"},
	{regexp.MustCompile(`^github\.com/google/go-containerregistry/pkg/registry`), []string{"edgeagent/fetch/fetchtest", "edgeagent/runtime/runtimetest"}, "it is for tests"},
	{regexp.MustCompile(`^github\.com/google/go-containerregistry/pkg/v1/remote`), []string{"registrycheck", "internal/release", "edgeagent/fetch/fetchtest"}, "one place asks registries about images"},
	{regexp.MustCompile(`^k8s\.io/client-go/kubernetes`), []string{"controller", "cmd/edgecache-controller", "scheduler-plugin"}, "a typed clientset costs an agent more memory than the rest of it"},
	{regexp.MustCompile(`^edgecache\.dev/test/`), nil, "products do not depend on the lab"},
	{helpers, []string{"edgeagent/fetch/fetchtest", "edgeagent/runtime/runtimetest", "edgeagent/runtime/realtest"}, "test helpers are for tests"},
	{regexp.MustCompile(`^sigs\.k8s\.io/controller-runtime`), nil, "controllers are built on client-go"},
}

// components do not import one another, but for the pairs that are named.
var (
	components = []string{"controller", "scheduler-plugin", "edgeagent", "registrycheck", "offline"}
	allowed    = [][2]string{{"controller", "registrycheck"}, {"edgeagent", "offline"}}
)

// pure packages decide and do nothing else.
var pure = map[string]*regexp.Regexp{
	"api/imageref":    regexp.MustCompile(`^(os|net|io|time|k8s\.io)\b`),
	"api/wish":        regexp.MustCompile(`^(os|net|io|time|k8s\.io/client-go|k8s\.io/klog)\b`),
	"edgeagent/evict": regexp.MustCompile(`^(os|net|io|k8s\.io)\b`),
	"edgeagent/plan":  regexp.MustCompile(`^(os|net|io|k8s\.io/client-go|k8s\.io/klog)\b`),
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if in(p.path(), "test") {
			continue
		}
		for _, imported := range p.Imports {
			checkOnly(t, p, imported)
			checkComponents(t, p, imported)
			if not := pure[p.path()]; not != nil && not.MatchString(imported) {
				t.Errorf("%s is pure and imports %s", p.path(), imported)
			}
			if in(p.path(), "api") && strings.HasPrefix(imported, module) && !in(strings.TrimPrefix(imported, module), "api") {
				t.Errorf("api is a leaf, and %s imports %s", p.path(), imported)
			}
		}
	}
}

func checkOnly(t *testing.T, p *pkg, imported string) {
	t.Helper()
	for _, r := range only {
		if r.what.MatchString(imported) && !in(p.path(), r.where...) {
			t.Errorf("%s imports %s: allowed in %v only, as %s", p.path(), imported, r.where, r.why)
		}
	}
}

func checkComponents(t *testing.T, p *pkg, imported string) {
	t.Helper()
	from, to := component(p.path()), component(strings.TrimPrefix(imported, module))
	if from == "" || to == "" || from == to || slices.Contains(allowed, [2]string{from, to}) {
		return
	}
	t.Errorf("%s imports %s: %s declares an interface instead, and cmd passes the implementation", p.path(), imported, from)
}

func component(path string) string {
	i := slices.IndexFunc(components, func(c string) bool { return in(path, c) })
	if i < 0 {
		return ""
	}
	return components[i]
}

func TestEveryPackageHasADocument(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 && !in(p.path(), "api/client") {
			t.Errorf("%s has no package comment", p.path())
		}
	}
}

func TestFolderNames(t *testing.T) {
	t.Parallel()
	drawers := regexp.MustCompile(`(^|/)(util|utils|common|helper|helpers|misc|shared|lib)(/|$)`)
	for _, p := range packages(t) {
		if drawers.MatchString(p.path()) {
			t.Errorf("%s is a drawer: name it for its subject", p.path())
		}
	}
}

// TestSizes: files below 500 lines, functions of at most 80.
func TestSizes(t *testing.T) {
	t.Parallel()
	eachSource(t, func(path string, file *ast.File, fset *token.FileSet) {
		if lines := fset.File(file.Pos()).LineCount(); lines > 500 {
			t.Errorf("%s has %d lines, at most 500", path, lines)
		}
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > 80 && !strings.HasSuffix(path, "_test.go") {
				t.Errorf("%s: %s has %d lines, at most 80", path, fn.Name.Name, n)
			}
		}
	})
}

// TestNoExitOutsideMain: only a main decides how a program ends.
func TestNoExitOutsideMain(t *testing.T) {
	t.Parallel()
	eachSource(t, func(path string, file *ast.File, fset *token.FileSet) {
		if filepath.Base(path) == "main.go" || strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Exit" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "os" {
					t.Errorf("%s: os.Exit outside main.go", fset.Position(n.Pos()))
				}
			}
			return true
		})
	})
}

// TestOneCopyOfTheCRDs: charts/edgecache/crds has the only one.
func TestOneCopyOfTheCRDs(t *testing.T) {
	t.Parallel()
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".yaml") || strings.HasPrefix(path, "charts/edgecache/crds/") {
			return
		}
		f, err := os.Open(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if lines.Text() == "kind: CustomResourceDefinition" {
				t.Errorf("%s holds a second copy of a CustomResourceDefinition", path)
			}
		}
	})
}

func packages(t *testing.T) []*pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Doc,Imports,TestImports,XTestImports,GoFiles", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	var all []*pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		p := &pkg{}
		if err := dec.Decode(p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

// eachSource visits the Go files that people write.
func eachSource(t *testing.T, visit func(path string, file *ast.File, fset *token.FileSet)) {
	t.Helper()
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join(root, path), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if !ast.IsGenerated(file) {
			visit(path, file, fset)
		}
	})
}

// walk visits the repository's files by their path from its root.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == ".git" || path == ".cache" || path == "bin" || path == "dist" || d.Name() == "testdata"):
			return fs.SkipDir
		case !d.IsDir():
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
