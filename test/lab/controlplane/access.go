package controlplane

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Administrators is the group that may do everything.
const Administrators = "system:masters"

// RESTConfig returns a client configuration for user as a member of groups. Client-side rate limits are off: a test
// that wants them sets them.
func (c *ControlPlane) RESTConfig(user string, groups ...string) (*rest.Config, error) {
	pair, err := c.authority.client(user, groups...)
	if err != nil {
		return nil, err
	}
	config := c.anonymous()
	config.CertData, config.KeyData = pair.Certificate, pair.Key
	return config, nil
}

// anonymous is a client configuration without credentials.
func (c *ControlPlane) anonymous() *rest.Config {
	return &rest.Config{
		Host:            c.URL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.authority.pem},
		QPS:             -1,
		// No proxy of the environment knows the way to a lab.
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}
}

// Admin returns a client configuration that may do everything.
func (c *ControlPlane) Admin() *rest.Config { return rest.CopyConfig(c.admin) }

// Kubeconfig writes a kubeconfig file for user as a member of groups and returns its path. It holds its credentials
// itself, so it may be copied.
func (c *ControlPlane) Kubeconfig(user string, groups ...string) (string, error) {
	path := filepath.Join(c.options.Dir, "kubeconfigs", fileName(user)+".kubeconfig")
	if err := c.WriteKubeconfig(path, user, groups...); err != nil {
		return "", err
	}
	return path, nil
}

// AdminKubeconfig returns the path of a kubeconfig file that may do everything.
func (c *ControlPlane) AdminKubeconfig() string {
	return filepath.Join(c.options.Dir, "admin.kubeconfig")
}

// WriteKubeconfig is Kubeconfig with a path of the caller's choice.
func (c *ControlPlane) WriteKubeconfig(path, user string, groups ...string) error {
	pair, err := c.authority.client(user, groups...)
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: c.URL(), CertificateAuthorityData: c.authority.pem}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Certificate, ClientKeyData: pair.Key}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: user}
	config.CurrentContext = "lab"
	text, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	return nil
}

// fileName makes a user name ("system:node:a") usable as a file name.
func fileName(user string) string {
	return regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(user, "-")
}

// CA returns the certificate authority's certificate as PEM.
func (c *ControlPlane) CA() []byte { return c.authority.pem }

// CAFile returns the path of the certificate authority's certificate.
func (c *ControlPlane) CAFile() string { return c.files.ca }
