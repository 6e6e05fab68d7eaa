package product

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
)

const (
	// AgentAccount is the service account of all agents.
	AgentAccount = "edgecache-agent"
	// tokenLife is what the token of a pod has.
	tokenLife = time.Hour
	// tokenPoll is how often the Nodes are looked at, tokenPatience how long a first token waits for its Node.
	tokenPoll     = time.Second
	tokenPatience = time.Minute
)

// AgentToken asks for a token of the agents' account that is bound to a Node: it says
// which node it is for, and dies with it.
func AgentToken(ctx context.Context, client kubernetes.Interface, n *corev1.Node) (*authenticationv1.TokenRequest, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: new(int64(tokenLife / time.Second)),
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID},
	}}
	token, err := client.CoreV1().ServiceAccounts(v1alpha1.SystemNamespace).CreateToken(ctx, AgentAccount, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking for a token of %s for node %s: %w", AgentAccount, n.Name, err)
	}
	return token, nil
}

// AgentTokenFile is where the agent of a node finds its token.
func AgentTokenFile(n *node.Node) string { return filepath.Join(n.Dir(), "identity", "token") }

// tokens keeps the agents' token files good, as a kubelet does for its pods and an
// administrator for static pods and systemd units: a new token well before the old one
// ends, and when the Node was made again.
type tokens struct {
	client kubernetes.Interface
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex       // guards what follows, and the files
	held map[string]token // by node
}

type token struct {
	file string
	node types.UID // of the Node that it is bound to
	due  time.Time // for a new one
}

// keepTokens begins with no token to keep. close ends it.
func keepTokens(ctx context.Context, config *rest.Config) (*tokens, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making client: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t := &tokens{client: client, cancel: cancel, done: make(chan struct{}), held: map[string]token{}}
	go func() {
		defer close(t.done)
		wait.UntilWithContext(ctx, t.renew, tokenPoll)
	}()
	return t, nil
}

func (t *tokens) close() {
	t.cancel()
	<-t.done
}

// first writes the first token of a node's agent, once the Node is there.
func (t *tokens) first(ctx context.Context, name, file string) error {
	var failed error
	err := wait.PollUntilContextTimeout(ctx, tokenPoll/10, tokenPatience, true, func(ctx context.Context) (bool, error) {
		n, err := t.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			err = t.write(ctx, n, file)
		}
		failed = err
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("getting a token for the agent of %s: %w: %w", name, err, failed)
	}
	return nil
}

// renew writes the tokens that are due. What fails is tried again at the next poll: the
// API server may be stopped.
func (t *tokens) renew(ctx context.Context) {
	// A request that has begun ends by itself: cut off, client-go would log an error.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	list, err := t.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return
	}
	for i := range list.Items {
		n := &list.Items[i]
		if held := t.of(n.Name); held.file != "" && (held.node != n.UID || time.Now().After(held.due)) {
			_ = t.write(ctx, n, held.file)
		}
	}
}

func (t *tokens) of(name string) token {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held[name]
}

func (t *tokens) write(ctx context.Context, n *corev1.Node, file string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	request, err := AgentToken(ctx, t.client, n)
	if err != nil {
		return err
	}
	if err := replaceFile(file, request.Status.Token); err != nil {
		return err
	}
	t.held[n.Name] = token{file: file, node: n.UID, due: time.Now().Add(tokenLife * 8 / 10)}
	return nil
}

// KubeletKubeconfig gives the path of a kubeconfig such as a node's kubelet has, and a
// function that writes it: with the path of a client certificate and its key in one file,
// which is another one each time, as the kubelet rotates it.
func (p *Product) KubeletKubeconfig(n *node.Node) (path string, write func() error) {
	dir := filepath.Join(n.Dir(), "kubelet-identity")
	path, pem := filepath.Join(dir, "kubelet.conf"), filepath.Join(dir, "kubelet-client-current.pem")
	return path, func() error {
		cp := p.lab.ControlPlane()
		identity, err := cp.RESTConfig(n.Spec().User(), "system:nodes")
		if err != nil {
			return err
		}
		if err := replaceFile(pem, string(identity.CertData)+string(identity.KeyData)); err != nil {
			return err
		}
		config := clientcmdapi.NewConfig()
		config.Clusters["lab"] = &clientcmdapi.Cluster{Server: cp.URL(), CertificateAuthorityData: cp.CA()}
		config.AuthInfos["default-auth"] = &clientcmdapi.AuthInfo{ClientCertificate: pem, ClientKey: pem}
		config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "default-auth"}
		config.CurrentContext = "lab"
		if err := clientcmd.WriteToFile(*config, path); err != nil {
			return fmt.Errorf("writing kubeconfig of the kubelet of %s: %w", n.Name(), err)
		}
		return nil
	}
}

// replaceFile never lets a reader see half a token.
func replaceFile(file, text string) error {
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = os.WriteFile(file+".new", []byte(text), 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("writing token: %w", err)
	}
	return nil
}

// agentKubeconfig gives the agent of a node the identity that users are told to give it: a
// token that is bound to its Node, in a file that is read anew.
func (p *Product) agentKubeconfig(ctx context.Context, n *node.Node) (string, error) {
	file := AgentTokenFile(n)
	if err := p.tokens.first(ctx, n.Name(), file); err != nil {
		return "", err
	}
	cp := p.lab.ControlPlane()
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: cp.URL(), CertificateAuthorityData: cp.CA()}
	config.AuthInfos[AgentAccount] = &clientcmdapi.AuthInfo{TokenFile: file}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: AgentAccount}
	config.CurrentContext = "lab"
	path := filepath.Join(filepath.Dir(file), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("writing kubeconfig of the agent of %s: %w", n.Name(), err)
	}
	return path, nil
}
