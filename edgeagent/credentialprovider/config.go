package credentialprovider

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	config "k8s.io/kubelet/config/v1"
	"sigs.k8s.io/yaml"

	"edgecache.dev/internal/hostglob"
)

const (
	configKind = "CredentialProviderConfig"
	apiGroup   = "credentialprovider.kubelet.k8s.io/"
)

// Load reads the configuration of the kubelet's plugins, a file or a folder of files, and
// makes sure that they are in a folder of programs.
func Load(path, programs string) (*Providers, error) {
	files, err := filesOf(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of credential providers: %w", err)
	}
	all := &Providers{}
	seen := map[string]bool{}
	for _, file := range files {
		c, err := read(file)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration of credential providers %s: %w", file, err)
		}
		if errs := validate(c, programs, seen); len(errs) > 0 {
			return nil, fmt.Errorf("configuration of credential providers %s: %w", file, errs.ToAggregate())
		}
		all.add(c, programs)
	}
	return all, nil
}

// filesOf gives the files of a configuration: of a folder those that the kubelet reads, in
// its order.
func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("folder %s has no .json, .yaml or .yml file", path)
	}
	return files, nil
}

func read(file string) (*config.CredentialProviderConfig, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := &config.CredentialProviderConfig{}
	if err := yaml.UnmarshalStrict(text, c); err != nil {
		return nil, err
	}
	if want := config.SchemeGroupVersion.String(); c.APIVersion != want || c.Kind != configKind {
		return nil, fmt.Errorf("it is of apiVersion %q and kind %q: want %s and %s", c.APIVersion, c.Kind, want, configKind)
	}
	return c, nil
}

// validate names what is wrong. seen are the names of other files' providers too.
func validate(c *config.CredentialProviderConfig, programs string, seen map[string]bool) field.ErrorList {
	at := field.NewPath("providers")
	if len(c.Providers) == 0 {
		return field.ErrorList{field.Required(at, "list at least one plugin")}
	}
	var errs field.ErrorList
	for i := range c.Providers {
		p, at := &c.Providers[i], at.Index(i)
		if seen[p.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
		}
		seen[p.Name] = true
		errs = append(errs, validateProvider(p, at, programs)...)
	}
	return errs
}

func validateProvider(p *config.CredentialProvider, at *field.Path, programs string) (errs field.ErrorList) {
	switch {
	case p.Name == "" || p.Name == "." || p.Name == ".." || strings.ContainsAny(p.Name, "/ "):
		errs = append(errs, field.Invalid(at.Child("name"), p.Name, "must be the file name of the program"))
	default:
		if err := isProgram(filepath.Join(programs, p.Name)); err != nil {
			errs = append(errs, field.Invalid(at.Child("name"), p.Name, err.Error()+": set --image-credential-provider-bin-dir to the folder of the plugins"))
		}
	}
	versions := []string{apiGroup + "v1", apiGroup + "v1beta1", apiGroup + "v1alpha1"}
	if !slices.Contains(versions, p.APIVersion) {
		errs = append(errs, field.NotSupported(at.Child("apiVersion"), p.APIVersion, versions))
	}
	if len(p.MatchImages) == 0 {
		errs = append(errs, field.Required(at.Child("matchImages"), "list the images to ask the plugin for, such as *.registry.example"))
	}
	for i, m := range p.MatchImages {
		host, _, _ := strings.Cut(m, "/")
		if err := hostglob.Check(host); err != nil {
			errs = append(errs, field.Invalid(at.Child("matchImages").Index(i), m, "its host "+err.Error()))
		}
	}
	if d := p.DefaultCacheDuration; d == nil {
		errs = append(errs, field.Required(at.Child("defaultCacheDuration"), "0s caches nothing that the plugin does not say to cache"))
	} else if d.Duration < 0 {
		errs = append(errs, field.Invalid(at.Child("defaultCacheDuration"), d.Duration.String(), "must not be negative"))
	}
	return errs
}

func isProgram(path string) error {
	info, err := os.Stat(path)
	if err == nil && (info.IsDir() || info.Mode()&0o111 == 0) {
		err = errors.New(path + " is no program")
	}
	return err
}
