package extract

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
)

// origin is where a document stands.
type origin struct {
	file, template string
	line           int // before its first line
}

func (o origin) at(v value) int {
	if o.file == "" {
		return 0
	}
	return o.line + max(v.line(), 1)
}

// readDocument adds what a document has in it: an object or a List of them.
func (in *Inputs) readDocument(d document, root *yaml.Node) {
	if root.Kind != yaml.DocumentNode || len(root.Content) == 0 {
		return
	}
	from := origin{file: d.file, template: d.template, line: d.line}
	v := fromNode(root.Content[0])
	if v.is(yaml.ScalarNode) && v.node.Tag == "!!null" {
		return
	}
	if err := bounded(v.node); err != nil {
		in.fail(d.file, from.at(v), err)
		return
	}
	if v.isList() { // as jq and some generators write them
		for _, item := range v.items() {
			in.object(from, item, "")
		}
		return
	}
	in.object(from, v, "")
}

// Object adds what an object of a cluster has in it: what is read of JSON, as
// unstructured.Unstructured holds it.
func (in *Inputs) Object(object map[string]any) error {
	var n yaml.Node
	if err := n.Encode(object); err != nil {
		return fmt.Errorf("reading object: %w", err)
	}
	if err := bounded(&n); err != nil {
		return fmt.Errorf("reading object: %w", err)
	}
	in.object(origin{}, fromNode(&n), "")
	return nil
}

// object reads one object. kind is what its List says of it, where it says nothing itself.
func (in *Inputs) object(from origin, v value, kind string) {
	kind = cmp.Or(v.at("kind").text(), kind)
	if !v.isMap() || kind == "" {
		in.fail(from.file, from.at(v), errors.New("is no Kubernetes object: it has no kind"))
		return
	}
	if items := v.at("items"); items.isList() && strings.HasSuffix(kind, "List") {
		of := strings.TrimSuffix(kind, "List") // "" for a List of anything
		for _, item := range items.items() {
			in.object(from, item, of)
		}
		return
	}
	in.Objects++
	w := walk{
		in: in, from: from, group: group(v.at("apiVersion").text()),
		source: Source{
			File: from.file, Template: from.template,
			Kind: kind, Namespace: v.at("metadata", "namespace").text(), Name: v.at("metadata", "name").text(),
		},
	}
	w.object(v)
}

// group cuts the version off.
func group(apiVersion string) string {
	g, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return g
}

// Kinds that are read by what they mean.
const (
	kindImageCache     = "ImageCache"
	kindSecret         = "Secret"
	kindServiceAccount = "ServiceAccount"
	kindImageLock      = "ImageLock"
	kindCRD            = "CustomResourceDefinition"
	kindDaemonSet      = "DaemonSet"
)

// walk is the search through one object.
type walk struct {
	in     *Inputs
	from   origin
	group  string
	source Source
}

func (w *walk) object(v value) {
	switch w.source.Kind {
	case kindImageCache:
		w.imageCache(v.at("spec"))
	case kindSecret:
		w.secret(v)
	case kindServiceAccount:
		w.serviceAccount(v)
	case kindImageLock:
		w.lock(v)
	case kindCRD: // its schema has the names of fields, and no values
	default:
		w.search(v, "")
	}
}

// search looks for pod templates below v, whose path is at.
func (w *walk) search(v value, at string) {
	for i, item := range v.items() {
		w.search(item, at+"["+strconv.Itoa(i)+"]")
	}
	if w.isPod(v) {
		w.pod(v, at)
	}
	for key, child := range v.entries() {
		if at == "" && (key == "metadata" || key == "status") {
			continue
		}
		if child.isMap() || child.isList() {
			w.search(child, join(at, key))
		}
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// lists are the fields of a pod that hold its containers.
var lists = []struct {
	field string
	use   Use
}{{"initContainers", InitContainer}, {"containers", Container}, {"ephemeralContainers", EphemeralContainer}}

// foreign are fields in which other projects keep containers, by the group of their API:
// Argo's templates, Tekton's tasks.
var foreign = map[string][]string{
	"argoproj.io": {"container", "script", "sidecars"},
	"tekton.dev":  {"steps", "sidecars", "stepTemplate"},
}

// isPod says whether v has the shape of a pod's spec, or of what stands for one.
func (w *walk) isPod(v value) bool {
	for _, l := range lists {
		if hasImage(v.at(l.field)) {
			return true
		}
	}
	return slices.ContainsFunc(foreign[w.group], func(field string) bool {
		f := v.at(field)
		return hasImage(f) || f.at("image").text() != ""
	})
}

func hasImage(list value) bool {
	for _, item := range list.items() {
		if item.at("image").text() != "" {
			return true
		}
	}
	return false
}

// pod adds the images of a pod's spec.
func (w *walk) pod(spec value, at string) {
	base := Finding{PullSecrets: names(spec.at("imagePullSecrets")), ServiceAccount: w.account(spec), Nodes: w.podNodes(spec)}
	for _, l := range lists {
		for i, c := range spec.at(l.field).items() {
			w.container(c, base, l.use, fmt.Sprintf("%s[%d]", join(at, l.field), i))
		}
	}
	for _, field := range foreign[w.group] {
		f := spec.at(field)
		w.container(f, base, Container, join(at, field))
		for i, c := range f.items() {
			w.container(c, base, Container, fmt.Sprintf("%s[%d]", join(at, field), i))
		}
	}
	for i, volume := range spec.at("volumes").items() {
		if image := volume.at("image"); image.isMap() {
			at := fmt.Sprintf("%s[%d].image", join(at, "volumes"), i)
			w.image(image.at("reference"), image.at("pullPolicy"), base, Volume, at+".reference")
		}
	}
}

func (w *walk) container(c value, base Finding, use Use, at string) {
	if c.isMap() {
		w.image(c.at("image"), c.at("imagePullPolicy"), base, use, at+".image")
	}
}

// image adds one image. One without a reference is filled in by somebody else when the
// pod is made, and one that is never pulled cannot fail to be.
func (w *walk) image(reference, policy value, base Finding, use Use, at string) {
	f := base
	f.Image, f.Use, f.Source = strings.TrimSpace(reference.text()), use, w.source
	f.Source.Field, f.Source.Line = at, w.from.at(reference)
	switch {
	case f.Image == "":
	case policy.text() == string(corev1.PullNever):
		w.in.Notes = append(w.in.Notes, Note{f.Source, f.Image + " is not checked: by imagePullPolicy: Never nodes do not pull it"})
	default:
		w.in.Findings = append(w.in.Findings, f)
	}
}

func (w *walk) account(spec value) string {
	return cmp.Or(spec.at("serviceAccountName").text(), spec.at("serviceAccount").text())
}

// podNodes reads where a pod may run. What cannot be read limits nothing: too many
// platforms are checked rather than too few.
func (w *walk) podNodes(spec value) Nodes {
	n := Nodes{
		Selector: labels(spec.at("nodeSelector")), NodeName: spec.at("nodeName").text(), OS: spec.at("os", "name").text(),
		Pod: true, Daemon: w.source.Kind == kindDaemonSet,
	}
	n.Affinity = affinity(spec.at("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"))
	if err := spec.at("tolerations").decode(&n.Tolerations); err != nil {
		n.Pod = false // taints do not count
	}
	return n
}

func affinity(v value) *corev1.NodeSelector {
	var s corev1.NodeSelector
	if err := v.decode(&s); err != nil || len(s.NodeSelectorTerms) == 0 {
		return nil
	}
	return &s
}

func labels(v value) map[string]string {
	var all map[string]string
	for key, child := range v.entries() {
		if all == nil {
			all = map[string]string{}
		}
		all[key] = child.text()
	}
	return all
}

// names gives the names in a list of references to objects.
func names(list value) []string {
	var all []string
	for _, item := range list.items() {
		if name := item.at("name").text(); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// imageCache adds the images that are to be cached.
func (w *walk) imageCache(spec value) {
	secrets := names(spec.at("imagePullSecrets"))
	for i, list := range spec.at("cacheSpec").items() {
		nodes := Nodes{Selector: labels(list.at("nodeSelector")), Affinity: affinity(list.at("nodeAffinity")), OS: "linux"}
		for k, image := range list.at("images").items() {
			f := Finding{PullSecrets: secrets, Nodes: nodes}
			w.image(image, value{}, f, Cache, fmt.Sprintf("spec.cacheSpec[%d].images[%d]", i, k))
		}
	}
}

// secret keeps pull Secrets. Others are nobody's business here.
func (w *walk) secret(v value) {
	switch corev1.SecretType(v.at("type").text()) {
	case corev1.SecretTypeDockerConfigJson, corev1.SecretTypeDockercfg:
	default:
		return
	}
	var s corev1.Secret
	if err := v.decode(&s); err != nil {
		w.in.fail(w.from.file, w.from.at(v), fmt.Errorf("%s cannot be read: data must be base64, stringData text", w.source.Object()))
		return
	}
	for key, text := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[key] = []byte(text)
	}
	s.StringData = nil
	w.in.Secrets = append(w.in.Secrets, s)
}

func (w *walk) serviceAccount(v value) {
	var a corev1.ServiceAccount
	a.Namespace, a.Name = w.source.Namespace, w.source.Name
	for _, name := range names(v.at("imagePullSecrets")) {
		a.ImagePullSecrets = append(a.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	w.in.ServiceAccounts = append(w.in.ServiceAccounts, a)
}

func (w *walk) lock(v value) {
	var raw json.RawMessage
	if err := v.decode(&raw); err != nil {
		w.in.fail(w.from.file, w.from.at(v), err)
		return
	}
	source := w.source
	source.Line = w.from.at(v)
	w.in.Locks = append(w.in.Locks, Lock{Source: source, JSON: raw})
}

// decodeJSON fills a typed value as the API server would, by its JSON names.
func decodeJSON(n *yaml.Node, into any) error {
	var plain any
	if err := n.Decode(&plain); err != nil {
		return err
	}
	b, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}
