package pullscope

import (
	"strings"

	"edgecache.dev/internal/hostglob"
)

// dockerHub is the registry of references without a host.
const dockerHub = "docker.io"

// Covers says whether a scope stands for the repository name
// ("registry.example:5000/team/app").
func Covers(scope, name string) bool {
	scopeHost, scopePath := cutHost(scope)
	host, path := cutHost(name)
	return strings.HasPrefix(path, scopePath) && hostglob.Match(scopeHost, host)
}

// IsHub says whether a scope is one of the other names under which Docker Hub is known:
// they stand for every repository of docker.io where nothing else does.
func IsHub(scope string) bool {
	return scope == "index."+dockerHub || scope == "registry-1."+dockerHub
}

// OnHub says whether a repository is one of Docker Hub.
func OnHub(name string) bool { return strings.HasPrefix(name, dockerHub+"/") }

// cutHost splits at the first slash, which stays with the path.
func cutHost(s string) (host, path string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}
