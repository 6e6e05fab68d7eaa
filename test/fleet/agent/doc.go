// Package agent runs edge agents in this process, joined as cmd/edgecache-agent joins them:
// the real loop, intake, reporter and heartbeat, with real clients of a real API server. Only
// the runtime and the store are played.
//
// It owns the link between an agent and the API server, which can be cut and joined, and
// counts when agents come back. A group of agents shares its connections: the API server sees
// each agent as itself by impersonation of its service account on its node.
package agent
