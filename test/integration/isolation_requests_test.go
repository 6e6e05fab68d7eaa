package integration

import (
	"fmt"
	"net/http"
)

// Who asks.
const (
	node1          = "node-1's token"
	node2          = "node-2's token"
	pod1           = "a pod's token on node-1"
	homeless       = "a pod's token on no node"
	unbound        = "a token without node"
	certificate    = "a certificate in the account's name"
	impersonator   = "an administrator in the account's name"
	impersonator1  = "an administrator in the name of node-1's agent"
	namesake       = "the token of a node called edgecache-controller"
	kubelet        = "node-1's kubelet"
	kubelet2       = "node-2's kubelet"
	stranger       = "another account"
	controllerUser = "the controller"
	admin          = "an administrator"
)

// Where.
const (
	objects   = "/apis/edgecache.dev/v1alpha1/namespaces/edgecache-system/nodeimagecaches"
	leases    = "/apis/coordination.k8s.io/v1/namespaces/edgecache-system/leases"
	events    = "/api/v1/namespaces/edgecache-system/events"
	newEvents = "/apis/events.k8s.io/v1/namespaces/edgecache-system/events"
	secretsOf = "/api/v1/namespaces/edgecache-system/secrets"
)

// What refusals say: the policies, RBAC, Kubernetes' NodeRestriction.
const (
	namesNoNode = "the token of edgecache-agent names no node, so it may write nothing"
	onlyItsOwn  = "may write only the status of its own NodeImageCache and its own Lease"
	onlyStatus  = "may only update the status of its NodeImageCache, and create and update its Lease"
	electionIs  = "the Lease edgecache-controller is the controllers' own"
	noEvents    = "the token of edgecache-agent names no node, so it may write no Events"
	eventsOfOwn = "may write Events about the NodeImageCache and the Lease"
	byRBAC      = `cannot `
	byKubelets  = "kube-node-lease"
)

// What is sent.
const (
	statusBody = `{"status":{"bootID":"b"}}`
	jsonPatch  = `[{"op":"add","path":"/status","value":{"bootID":"b"}}]`
	specBody   = `{"spec":{"images":[]}}`
	labelBody  = `{"metadata":{"labels":{"a":"b"}}}`
	leaseSpec  = `{"spec":{"holderIdentity":"somebody"}}`
)

func objectBody(name string) string {
	return fmt.Sprintf(`{"apiVersion":"edgecache.dev/v1alpha1","kind":"NodeImageCache","metadata":{"name":%q}}`, name)
}

func statusApply(name string) string {
	return fmt.Sprintf(`{"apiVersion":"edgecache.dev/v1alpha1","kind":"NodeImageCache","metadata":{"name":%q},"status":{"bootID":"b"}}`, name)
}

func leaseBody(name string) string {
	return fmt.Sprintf(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":%q},"spec":{"holderIdentity":"somebody"}}`, name)
}

func eventBody(kind, name string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Event","metadata":{"generateName":"e-"},"reason":"R","message":"m","type":"Normal","involvedObject":{"kind":%q,"name":%q,"namespace":"edgecache-system"}}`, kind, name)
}

func newEventBody(name string) string {
	return fmt.Sprintf(`{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"generateName":"e-"},"eventTime":"2026-11-01T12:00:00.000000Z","action":"A","reason":"R","note":"m","type":"Normal","reportingController":"edgecache.dev/agent","reportingInstance":"i","regarding":{"kind":"NodeImageCache","name":%q,"namespace":"edgecache-system"}}`, name)
}

// isolationObjects are there before anybody asks. The Lease of node-1 is not: it is made.
const isolationObjects = `
{apiVersion: edgecache.dev/v1alpha1, kind: NodeImageCache, metadata: {name: node-1, namespace: edgecache-system}}
---
{apiVersion: edgecache.dev/v1alpha1, kind: NodeImageCache, metadata: {name: node-2, namespace: edgecache-system}}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: node-2, namespace: edgecache-system}}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: edgecache-controller, namespace: edgecache-system}}
---
apiVersion: v1
kind: Event
metadata: {name: of-node-1, namespace: edgecache-system}
involvedObject: {kind: NodeImageCache, name: node-1, namespace: edgecache-system}
---
apiVersion: v1
kind: Event
metadata: {name: of-node-2, namespace: edgecache-system}
involvedObject: {kind: NodeImageCache, name: node-2, namespace: edgecache-system}
---
{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: edgecache-system}}
---
{apiVersion: v1, kind: Node, metadata: {name: edgecache-controller}}
---
apiVersion: v1
kind: Pod
metadata: {name: agent-on-node-1, namespace: edgecache-system}
spec: {serviceAccountName: edgecache-agent, nodeName: node-1, containers: [{name: c, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent-nowhere, namespace: edgecache-system}
spec: {serviceAccountName: edgecache-agent, schedulerName: none, containers: [{name: c, image: none}]}
`

// underOwnRights are requests with the rights that are installed.
func underOwnRights() map[string]request {
	return map[string]request{
		"own status":                          {node1, http.MethodPatch, objects + "/node-1/status", statusBody, ""},
		"own status, as agents write it":      {node1, http.MethodPatch, objects + "/node-1/status", jsonPatch, ""},
		"own status, applied":                 {node1, http.MethodPatch, objects + "/node-1/status", statusApply("node-1"), ""},
		"own status, node-2":                  {node2, http.MethodPatch, objects + "/node-2/status", statusBody, ""},
		"own status, pod":                     {pod1, http.MethodPatch, objects + "/node-1/status", statusBody, ""},
		"another's status":                    {node1, http.MethodPatch, objects + "/node-2/status", statusBody, onlyItsOwn},
		"another's status, as agents do":      {node1, http.MethodPatch, objects + "/node-2/status", jsonPatch, onlyItsOwn},
		"another's status, applied":           {node1, http.MethodPatch, objects + "/node-2/status", statusApply("node-2"), onlyItsOwn},
		"another's status, node-2":            {node2, http.MethodPatch, objects + "/node-1/status", statusBody, onlyItsOwn},
		"another's status, pod":               {pod1, http.MethodPatch, objects + "/node-2/status", statusBody, onlyItsOwn},
		"any status, unbound":                 {unbound, http.MethodPatch, objects + "/node-1/status", statusBody, namesNoNode},
		"any status, pod on no node":          {homeless, http.MethodPatch, objects + "/node-1/status", statusBody, namesNoNode},
		"any status, certificate":             {certificate, http.MethodPatch, objects + "/node-1/status", statusBody, namesNoNode},
		"any status, impersonated":            {impersonator, http.MethodPatch, objects + "/node-1/status", statusBody, namesNoNode},
		"own status, impersonated":            {impersonator1, http.MethodPatch, objects + "/node-1/status", statusBody, ""}, // as test/fleet does
		"another's status, impersonated":      {impersonator1, http.MethodPatch, objects + "/node-2/status", statusBody, onlyItsOwn},
		"makes own Lease":                     {node1, http.MethodPost, leases, leaseBody("node-1"), ""},
		"makes own Lease by apply":            {node1, http.MethodPatch, leases + "/node-1", leaseBody("node-1"), ""},
		"renews own Lease":                    {node2, http.MethodPatch, leases + "/node-2", leaseSpec, ""},
		"makes another's Lease":               {node1, http.MethodPost, leases, leaseBody("node-3"), onlyItsOwn},
		"makes another's Lease by apply":      {node1, http.MethodPatch, leases + "/node-3", leaseBody("node-3"), onlyItsOwn},
		"makes a Lease of any name":           {node1, http.MethodPost, leases, `{"metadata":{"generateName":"node-1"}}`, onlyItsOwn},
		"renews another's Lease":              {node1, http.MethodPatch, leases + "/node-2", leaseSpec, onlyItsOwn},
		"renews another's Lease, pod":         {pod1, http.MethodPatch, leases + "/node-2", leaseSpec, onlyItsOwn},
		"makes a Lease, unbound":              {unbound, http.MethodPost, leases, leaseBody("node-1"), namesNoNode},
		"takes the controllers' Lease":        {node1, http.MethodPatch, leases + "/edgecache-controller", leaseSpec, onlyItsOwn},
		"takes the controllers' Lease, named": {namesake, http.MethodPatch, leases + "/edgecache-controller", leaseSpec, electionIs},
		"a kubelet's Lease":                   {node1, http.MethodPatch, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1", leaseSpec, byRBAC},
		"own spec":                            {node1, http.MethodPatch, objects + "/node-1", specBody, byRBAC},
		"deletes own object":                  {node1, http.MethodDelete, objects + "/node-1", "", byRBAC},
		"makes an object":                     {node1, http.MethodPost, objects, objectBody("node-3"), byRBAC},
		"tells of own object":                 {node1, http.MethodPost, events, eventBody("NodeImageCache", "node-1"), ""},
		"tells of another's object":           {node1, http.MethodPost, events, eventBody("NodeImageCache", "node-2"), eventsOfOwn},
		"counts an Event up, by role":         {node1, http.MethodPatch, events + "/of-node-1", `{"count":2}`, byRBAC},
		"a Secret":                            {node1, http.MethodGet, secretsOf + "/s", "", byRBAC},
		"all Secrets":                         {node1, http.MethodGet, secretsOf, "", byRBAC},
		"a Secret, pod":                       {pod1, http.MethodGet, secretsOf + "/s", "", byRBAC},
		"another token of its account":        {node1, http.MethodPost, "/api/v1/namespaces/edgecache-system/serviceaccounts/edgecache-agent/token", `{"spec":{}}`, byRBAC},
		"reads own object":                    {node1, http.MethodGet, objects + "/node-1", "", ""},
		"reads another's: not held back":      {node1, http.MethodGet, objects + "/node-2", "", ""}, // docs/threat-model.md
		"its own status":                      {kubelet2, http.MethodPatch, objects + "/node-2/status", statusBody, byRBAC},
		"a status":                            {stranger, http.MethodPatch, objects + "/node-2/status", statusBody, byRBAC},
		"makes a node's object":               {controllerUser, http.MethodPost, objects, objectBody("node-3"), ""},
		"writes a spec":                       {controllerUser, http.MethodPut, objects + "/node-2", "", ""},
		"deletes an object":                   {controllerUser, http.MethodDelete, objects + "/node-2", "", ""},
		"its election":                        {controllerUser, http.MethodPut, leases + "/edgecache-controller", "", ""},
		"a node's status":                     {admin, http.MethodPatch, objects + "/node-2/status", statusBody, ""},
		"deletes a node's object":             {admin, http.MethodDelete, objects + "/node-2", "", ""},
	}
}

// underKubeletRights are requests after the rights for agents that go by their kubelet's
// identity were installed, too.
func underKubeletRights() map[string]request {
	return map[string]request{
		"own status, as agents write it":     {kubelet, http.MethodPatch, objects + "/node-1/status", jsonPatch, ""},
		"own status, node-2":                 {kubelet2, http.MethodPatch, objects + "/node-2/status", jsonPatch, ""},
		"another's status":                   {kubelet, http.MethodPatch, objects + "/node-2/status", jsonPatch, onlyItsOwn},
		"another's status, applied":          {kubelet2, http.MethodPatch, objects + "/node-1/status", statusApply("node-1"), onlyItsOwn},
		"reads its own":                      {kubelet, http.MethodGet, objects + "/node-1", "", ""},
		"reads another's: not held back":     {kubelet, http.MethodGet, objects + "/node-2", "", ""}, // docs/threat-model.md
		"watches its own":                    {kubelet, http.MethodGet, objects + "?fieldSelector=metadata.name%3Dnode-1", "", ""},
		"own status, whole":                  {kubelet, http.MethodPut, objects + "/node-1/status", "", byRBAC},
		"own spec":                           {kubelet, http.MethodPatch, objects + "/node-1", specBody, byRBAC},
		"makes its object":                   {kubelet, http.MethodPost, objects, objectBody("node-1"), byRBAC},
		"deletes its object":                 {kubelet, http.MethodDelete, objects + "/node-1", "", byRBAC},
		"renews a Lease here":                {kubelet2, http.MethodPatch, leases + "/node-2", leaseSpec, byKubelets},
		"takes the controllers' Lease":       {kubelet, http.MethodPatch, leases + "/edgecache-controller", leaseSpec, byKubelets},
		"an Event about its object":          {kubelet, http.MethodPost, events, eventBody("NodeImageCache", "node-1"), ""},
		"a Secret that none of its pods has": {kubelet, http.MethodGet, secretsOf + "/s", "", "no relationship found"},
		"the agents' token still works":      {node1, http.MethodPatch, objects + "/node-1/status", jsonPatch, ""},
		"the agents' token is still held":    {node1, http.MethodPatch, objects + "/node-2/status", jsonPatch, onlyItsOwn},
	}
}

// wideRights are what a careless administrator might give: what is refused now, the
// policies refuse.
const wideRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: wide, namespace: edgecache-system}
rules:
- {apiGroups: [edgecache.dev], resources: ["*"], verbs: ["*"]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: ["*"]}
- {apiGroups: ["", events.k8s.io], resources: [events], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: wide, namespace: edgecache-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: wide}
subjects:
- {kind: ServiceAccount, name: edgecache-agent, namespace: edgecache-system}
- {kind: User, apiGroup: rbac.authorization.k8s.io, name: "system:node:node-1"}
`

// underWideRights are requests after an administrator gave agents, and a kubelet, all rights
// in the namespace.
func underWideRights() map[string]request {
	return map[string]request{
		"own status":                     {node1, http.MethodPatch, objects + "/node-1/status", jsonPatch, ""},
		"own status, put":                {node1, http.MethodPut, objects + "/node-1/status", "", ""},
		"own spec":                       {node1, http.MethodPatch, objects + "/node-1", specBody, onlyStatus},
		"own labels":                     {node1, http.MethodPatch, objects + "/node-1", labelBody, onlyStatus},
		"own object, put":                {node1, http.MethodPut, objects + "/node-1", "", onlyStatus},
		"own object, applied":            {node1, http.MethodPatch, objects + "/node-1", objectBody("node-1"), onlyStatus},
		"makes own object":               {node1, http.MethodPost, objects, objectBody("node-1"), onlyStatus},
		"deletes own object":             {node1, http.MethodDelete, objects + "/node-1", "", onlyStatus},
		"another's status":               {node1, http.MethodPatch, objects + "/node-2/status", statusBody, onlyItsOwn},
		"another's status, put":          {node1, http.MethodPut, objects + "/node-2/status", "", onlyItsOwn},
		"another's status, pod":          {pod1, http.MethodPatch, objects + "/node-2/status", statusBody, onlyItsOwn},
		"another's spec":                 {node1, http.MethodPatch, objects + "/node-2", specBody, onlyItsOwn},
		"makes another's object":         {node1, http.MethodPost, objects, objectBody("node-3"), onlyItsOwn},
		"makes an object of any name":    {node1, http.MethodPost, objects, `{"apiVersion":"edgecache.dev/v1alpha1","kind":"NodeImageCache","metadata":{"generateName":"node-1"}}`, onlyItsOwn},
		"deletes another's object":       {node1, http.MethodDelete, objects + "/node-2", "", onlyItsOwn},
		"deletes all objects":            {node1, http.MethodDelete, objects, "", onlyItsOwn},
		"own spec, unbound":              {unbound, http.MethodPatch, objects + "/node-1", specBody, namesNoNode},
		"deletes an object, certificate": {certificate, http.MethodDelete, objects + "/node-1", "", namesNoNode},
		"deletes all, impersonated":      {impersonator, http.MethodDelete, objects, "", namesNoNode},
		"puts own Lease":                 {node2, http.MethodPut, leases + "/node-2", "", ""},
		"deletes own Lease":              {node2, http.MethodDelete, leases + "/node-2", "", onlyStatus},
		"deletes another's Lease":        {node1, http.MethodDelete, leases + "/node-2", "", onlyItsOwn},
		"deletes all Leases":             {node1, http.MethodDelete, leases, "", onlyItsOwn},
		"deletes the election":           {node1, http.MethodDelete, leases + "/edgecache-controller", "", onlyItsOwn},

		"an Event about its object":                 {node1, http.MethodPost, events, eventBody("NodeImageCache", "node-1"), ""},
		"an Event about its Lease":                  {node1, http.MethodPost, events, eventBody("Lease", "node-1"), ""},
		"an Event about its object, newer API":      {node1, http.MethodPost, newEvents, newEventBody("node-1"), ""},
		"an Event about its object, pod":            {pod1, http.MethodPost, events, eventBody("NodeImageCache", "node-1"), ""},
		"counts an Event up":                        {node1, http.MethodPatch, events + "/of-node-1", `{"count":2}`, ""},
		"an Event about another's object":           {node1, http.MethodPost, events, eventBody("NodeImageCache", "node-2"), eventsOfOwn},
		"an Event about another's, newer API":       {node1, http.MethodPost, newEvents, newEventBody("node-2"), eventsOfOwn},
		"an Event about another's Lease":            {pod1, http.MethodPost, events, eventBody("Lease", "node-2"), eventsOfOwn},
		"an Event about a pod":                      {node1, http.MethodPost, events, eventBody("Pod", "node-1"), eventsOfOwn},
		"changes another's Event":                   {node1, http.MethodPatch, events + "/of-node-2", `{"count":2}`, eventsOfOwn},
		"makes another's Event its own":             {node1, http.MethodPatch, events + "/of-node-2", `{"involvedObject":{"name":"node-1"}}`, eventsOfOwn},
		"makes its Event another's":                 {node1, http.MethodPatch, events + "/of-node-1", `{"involvedObject":{"name":"node-2"}}`, eventsOfOwn},
		"deletes its Event":                         {node1, http.MethodDelete, events + "/of-node-1", "", eventsOfOwn},
		"deletes all Events":                        {node1, http.MethodDelete, events, "", eventsOfOwn},
		"an Event, unbound":                         {unbound, http.MethodPost, events, eventBody("NodeImageCache", "node-1"), noEvents},
		"an Event, impersonated":                    {impersonator, http.MethodPost, events, eventBody("NodeImageCache", "node-1"), noEvents},
		"own status, with rights":                   {kubelet, http.MethodPatch, objects + "/node-1/status", statusBody, ""},
		"another's status, with rights":             {kubelet, http.MethodPatch, objects + "/node-2/status", statusBody, onlyItsOwn},
		"own spec, with rights":                     {kubelet, http.MethodPatch, objects + "/node-1", specBody, onlyStatus},
		"deletes another's object, with rights":     {kubelet, http.MethodDelete, objects + "/node-2", "", onlyItsOwn},
		"makes own Lease: Kubernetes' own refusal":  {kubelet, http.MethodPost, leases, leaseBody("node-1"), byKubelets},
		"an Event about a pod, as kubelets do":      {kubelet, http.MethodPost, events, eventBody("Pod", "agent-on-node-1"), ""},
		"its own Lease":                             {kubelet, http.MethodPatch, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1", leaseSpec, ""},
		"makes an object":                           {controllerUser, http.MethodPost, objects, objectBody("node-3"), ""},
		"writes a spec":                             {controllerUser, http.MethodPut, objects + "/node-2", "", ""},
		"deletes an object":                         {controllerUser, http.MethodDelete, objects + "/node-2", "", ""},
		"a spec, a status":                          {admin, http.MethodPatch, objects + "/node-2", specBody, ""},
		"another's Lease":                           {admin, http.MethodPatch, leases + "/node-2", leaseSpec, ""},
		"an Event about anything":                   {admin, http.MethodPost, events, eventBody("Pod", "x"), ""},
		"deletes a node's object, with one request": {admin, http.MethodDelete, objects, "", ""},
	}
}
