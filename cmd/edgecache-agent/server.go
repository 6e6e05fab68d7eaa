package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/intake"
	"edgecache.dev/edgeagent/links"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/pause"
)

// firstConnect and lastConnect bound the pauses while kubeconfig, token or certificate are
// not there or cannot be read.
const firstConnect, lastConnect = 5 * time.Second, time.Minute

// newServer has the API server say what is wished. Its kubeconfig, and what that names, need
// not be there yet: until they are the agent works by what it remembers.
func newServer(c *config, memory *store.Store, contact *local.Contact, watch *links.Watch) (orders, error) {
	if c.Kubeconfig == "" && os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return orders{}, errors.New("finding the API server: outside a pod, give --kubeconfig, or --manifest to work without one")
	}
	line := &line{}
	reporter, teller := report.NewReporter(line), report.NewTeller(line, memory)
	return orders{Reporter: reporter, run: func(ctx context.Context, agent *edgeagent.Agent) {
		if line.Client = connect(ctx, c, contact, watch); line.Client == nil {
			return
		}
		listen := func(ctx context.Context) error {
			intake.Watch(ctx, line.Caches(), c.NodeName, listeners{agent, reporter, teller})
			return nil
		}
		others := []func(context.Context){reporter.Run, teller.Run}
		if !line.LivesWithNode {
			others = append(others, func(ctx context.Context) { report.Heartbeat(ctx, line) })
		}
		_ = together(ctx, listen, others...)
	}}, nil
}

// line is the client, once there is one. Nobody uses it before.
type line struct{ *report.Client }

// connect makes the client, nil when the context ends before that can be done.
func connect(ctx context.Context, c *config, contact *local.Contact, watch *links.Watch) *report.Client {
	for wait := firstConnect; ; wait = min(2*wait, lastConnect) {
		client, err := newClient(c, contact, watch)
		if err == nil {
			return client
		}
		klog.FromContext(ctx).Error(err, "No way to the API server, working by what is remembered", "again", wait)
		if !pause.For(ctx, wait) {
			return nil
		}
	}
}

func newClient(c *config, contact *local.Contact, watch *links.Watch) (*report.Client, error) {
	rc, err := restConfig(c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	// One object, a Lease and a watch: a handful of requests in a burst is enough.
	rc.QPS, rc.Burst = 5, 10
	rc.UserAgent = "edgecache-agent/" + version.Get().GitVersion
	rc.ContentType = "application/json"
	rc.Wrap(contact.Wrap)
	rc.Wrap(watch.Transport)
	user, err := certifiedUser(rc)
	if err != nil {
		return nil, err
	}
	client, err := report.NewClient(rest.CopyConfig(rc), c.NodeName)
	if err == nil {
		client.LivesWithNode = strings.HasPrefix(user, kubelets)
	}
	return client, err
}

// kubelets is how the user names of kubelets begin. They may write no Lease but their own.
const kubelets = "system:node:"

// certifiedUser gives the user that a client certificate is for, "" where there is none. The
// file of a certificate that rotates is read anew by the connection, not here: another
// certificate in it is for the same user.
func certifiedUser(rc *rest.Config) (string, error) {
	read := rest.CopyConfig(rc)
	if err := rest.LoadTLSFiles(read); err != nil {
		return "", fmt.Errorf("reading the client certificate: %w", err)
	}
	for left := read.CertData; len(left) > 0; {
		var block *pem.Block
		if block, left = pem.Decode(left); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" { // the kubelet's file has its key, too
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", fmt.Errorf("reading the client certificate: %w", err)
		}
		return cert.Subject.CommonName, nil
	}
	return "", nil
}

// restConfig reads a kubeconfig, or without one what is mounted into every pod.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// listeners are told one after the other.
type listeners []intake.Listener

// Hear tells all.
func (all listeners) Hear(object *v1alpha1.NodeImageCache) {
	for _, l := range all {
		l.Hear(object)
	}
}
