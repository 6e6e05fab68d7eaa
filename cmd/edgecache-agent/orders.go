package main

import (
	"context"
	goruntime "runtime"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/links"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/manifest"
	"edgecache.dev/edgeagent/store"
)

// orders is where the wish comes from and what the agent finds goes: the API server, or
// files.
type orders struct {
	edgeagent.Reporter
	// run keeps the agent told until the context ends.
	run func(ctx context.Context, agent *edgeagent.Agent)
}

// newOrders picks the one that is set up.
func newOrders(c *config, memory *store.Store, contact *local.Contact, watch *links.Watch) (orders, error) {
	if c.Manifest == "" {
		return newServer(c, memory, contact, watch)
	}
	labels, errs := c.labels()
	if len(errs) > 0 {
		return orders{}, errs.ToAggregate()
	}
	files := manifest.New(c.Manifest, c.NodeName, goruntime.GOARCH, labels, memory)
	if err := files.Recall(); err != nil {
		return orders{}, err
	}
	return orders{Reporter: files, run: func(ctx context.Context, agent *edgeagent.Agent) { files.Run(ctx, agent) }}, nil
}

// labels reads the node's labels.
func (c *config) labels() (map[string]string, field.ErrorList) {
	var errs field.ErrorList
	labels := map[string]string{}
	for i, text := range c.NodeLabels {
		key, value, ok := strings.Cut(text, "=")
		msgs := slices.Concat(validation.IsQualifiedName(key), validation.IsValidLabelValue(value))
		_, twice := labels[key]
		switch at := field.NewPath("nodeLabels").Index(i); {
		case !ok:
			errs = append(errs, field.Invalid(at, text, "write it as key=value"))
		case len(msgs) > 0:
			errs = append(errs, field.Invalid(at, text, msgs[0]))
		case twice:
			errs = append(errs, field.Duplicate(at, key))
		}
		labels[key] = value
	}
	return labels, errs
}

// validateManifest sees to it that there is one place that the wish comes from.
func (c *config) validateManifest() field.ErrorList {
	switch {
	case c.Manifest != "" && c.Kubeconfig != "":
		return field.ErrorList{field.Invalid(field.NewPath("manifest"), c.Manifest,
			"an agent works from files or for an API server: leave out --manifest, or --kubeconfig "+c.Kubeconfig)}
	case c.Manifest == "" && len(c.NodeLabels) > 0:
		return field.ErrorList{field.Invalid(field.NewPath("nodeLabels"), strings.Join(c.NodeLabels, ","),
			"the API server has the labels of the Node: leave out --node-labels, or give --manifest")}
	}
	_, errs := c.labels()
	return errs
}
