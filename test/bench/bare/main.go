// Command bare is what the agent's memory is compared with: a program that links client-go
// and containerd's client, is connected to both, watches one NodeImageCache, and does
// nothing with it.
//
//	bare KUBECONFIG NODE CONTAINERD-SOCKET
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/containerd/containerd/v2/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/clientcmd"

	"edgecache.dev/api/v1alpha1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bare KUBECONFIG NODE CONTAINERD-SOCKET")
	}
	containerd, err := client.New(args[2], client.WithDefaultNamespace("k8s.io"))
	if err != nil {
		return fmt.Errorf("connecting to containerd: %w", err)
	}
	defer func() { _ = containerd.Close() }()
	if _, err := containerd.Version(ctx); err != nil {
		return fmt.Errorf("asking containerd: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", args[0])
	if err != nil {
		return fmt.Errorf("reading kubeconfig: %w", err)
	}
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making client: %w", err)
	}
	informer := dynamicinformer.NewFilteredDynamicInformer(api, v1alpha1.SchemeGroupVersion.WithResource("nodeimagecaches"),
		v1alpha1.SystemNamespace, 0, nil, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, args[1]).String()
		})
	informer.Informer().RunWithContext(ctx)
	return nil
}
