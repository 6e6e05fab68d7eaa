package controlplane

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"edgecache.dev/test/lab/process"
)

// etcdCommand runs etcd on loopback, without fsync: a lab does not outlive the machine.
func (c *ControlPlane) etcdCommand() process.Command {
	client, peer := "http://"+c.etcdClient.String(), "http://"+c.etcdPeer.String()
	return c.command("etcd", c.options.Binary("etcd"),
		"--name=lab", "--data-dir="+filepath.Join(c.options.Dir, "etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=lab="+peer,
		"--unsafe-no-fsync", "--socket-reuse-port", "--log-level=warn",
	)
}

// apiserverCommand runs kube-apiserver as a cluster would, less the work that nobody looks at here: metrics of etcd,
// profiling.
func (c *ControlPlane) apiserverCommand() process.Command {
	o := c.options
	args := []string{
		"--bind-address=" + o.Address.Addr().String(), "--advertise-address=" + advertised(o.Address.Addr()).String(),
		"--secure-port=" + strconv.Itoa(c.apiPort.Port()), "--permit-port-sharing",
		"--etcd-servers=http://" + c.etcdClient.String(),
		"--client-ca-file=" + c.files.ca, "--tls-cert-file=" + c.files.serverCert, "--tls-private-key-file=" + c.files.serverKey,
		"--kubelet-client-certificate=" + c.files.kubeletCert, "--kubelet-client-key=" + c.files.kubeletKey,
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.files.serviceAccountKey, "--service-account-signing-key-file=" + c.files.serviceAccountKey,
		"--service-cluster-ip-range=" + o.ServiceCIDR.String(),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged", "--profiling=false",
		"--etcd-count-metric-poll-period=0", "--etcd-db-metric-poll-interval=0",
	}
	return c.command("kube-apiserver", o.Binary("kube-apiserver"), append(args, o.APIServerArgs...)...)
}

// advertised is the address that the service "kubernetes" leads to. The API server refuses to name a loopback address
// there, so one from the range for documentation stands in: pods, who would need it, do not run in such a cluster.
func advertised(listens netip.Addr) netip.Addr {
	if listens.IsLoopback() {
		return netip.AddrFrom4([4]byte{192, 0, 2, 1})
	}
	return listens
}

// unusedControllers are the loops of kube-controller-manager that watch and write for features no lab has.
const unusedControllers = "-horizontal-pod-autoscaler-controller,-node-ipam-controller,-persistentvolume-attach-detach-controller," +
	"-persistentvolume-binder-controller,-persistentvolume-expander-controller,-ephemeral-volume-controller,-ttl-controller," +
	"-certificatesigningrequest-approving-controller,-certificatesigningrequest-cleaner-controller," +
	"-certificatesigningrequest-signing-controller,-storage-version-migrator-controller"

// defaultNodeMonitorGrace is four missed leases of a kubelet.
const defaultNodeMonitorGrace = 40 * time.Second

func (c *ControlPlane) controllerManagerCommand(kubeconfig string) process.Command {
	o := c.options.ControllerManager
	grace := o.NodeMonitorGrace
	if grace == 0 {
		grace = defaultNodeMonitorGrace
	}
	args := []string{
		"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--use-service-account-credentials",
		"--controllers=*," + unusedControllers,
		"--service-account-private-key-file=" + c.files.serviceAccountKey, "--root-ca-file=" + c.files.ca,
		"--node-monitor-grace-period=" + grace.String(), "--node-monitor-period=2s",
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.controllersPort.Port()), "--permit-port-sharing",
		"--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig, "--profiling=false",
	}
	return c.command("kube-controller-manager", c.options.Binary("kube-controller-manager"), append(args, o.Args...)...)
}

func (c *ControlPlane) schedulerCommand(kubeconfig, config string) process.Command {
	o := c.options.Scheduler
	binary := o.Binary
	if binary == "" {
		binary = c.options.Binary("kube-scheduler")
	}
	args := []string{
		"--config=" + config, "--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.schedulerPort.Port()), "--permit-port-sharing",
		"--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
	}
	return c.command("kube-scheduler", binary, append(args, o.Args...)...)
}

func (c *ControlPlane) command(name, binary string, args ...string) process.Command {
	return process.Command{
		Name: name,
		Argv: append([]string{binary}, args...),
		Dir:  c.options.Dir,
		Log:  filepath.Join(c.options.LogDir, name+".log"),
	}
}

// Healthz returns the address where the named server ("kube-controller-manager", "kube-scheduler") answers /healthz and
// /metrics to administrators, by HTTPS with a self-signed certificate.
func (c *ControlPlane) Healthz(name string) (string, error) {
	switch name {
	case "kube-controller-manager":
		return "https://" + c.controllersPort.String(), nil
	case "kube-scheduler":
		return "https://" + c.schedulerPort.String(), nil
	default:
		return "", fmt.Errorf("%s has no such address", name)
	}
}
