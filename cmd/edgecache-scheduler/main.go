// Command edgecache-scheduler is kube-scheduler with the plugin ImageCacheLocality, which places pods where their images
// are ready soonest. It takes kube-scheduler's flags and configuration; a profile enables the plugin by its name.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"

	_ "edgecache.dev/cmd/edgecache-scheduler/argscheme"
	schedulerplugin "edgecache.dev/scheduler-plugin"
)

func main() {
	command := app.NewSchedulerCommand(app.WithPlugin(schedulerplugin.Name, schedulerplugin.New))
	command.Use = "edgecache-scheduler"
	os.Exit(cli.Run(command))
}
