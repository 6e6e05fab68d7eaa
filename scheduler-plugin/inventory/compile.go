package inventory

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/v1alpha1"
)

// compile works out a Demand. v.mu is held.
func (v *Inventory) compile(wants []Want) *Demand {
	d := &Demand{inventory: v, nodes: v.nodes()}
	c := compiler{v: v, d: d}
	for i := range wants {
		c.want(&wants[i])
	}
	for i, p := range v.platforms {
		d.on = append(d.on, c.platform(i, p))
	}
	for i := range d.hosts {
		d.hosts[i].prior = cmp.Or(v.priors.Load().hosts[d.hosts[i].name], v.priors.Load().all, v.options.BytesPerSecond)
	}
	return d
}

// usualSize is taken for the compressed size of an image of which only the digest is known.
const usualSize = 100 << 20

type compiler struct {
	v       *Inventory
	d       *Demand
	sources []source // of each want
}

// source is where the layers of one image are known from.
type source struct {
	digest  string
	content *content
	guessed bool  // content is that of another tag of the repository
	known   bool  // some node has the digest, or is asked to
	size    int64 // as nodes report it, 0 unknown
}

func (c *compiler) want(w *Want) {
	d := c.d
	s := c.find(w)
	c.sources = append(c.sources, s)
	n := c.v.names[w.Name]
	out := wanted{digest: s.digest, host: d.host(w.Ref.Registry()), always: w.Policy == corev1.PullAlways, never: w.Policy == corev1.PullNever}
	if n != nil {
		out.named = slices.Clone(n.holders)
		out.lazy = slices.Clone(n.lazy)
	}
	held := c.holders(s.digest)
	if w.Ref.Digest() != "" {
		out.named.join(held) // a digest has no other content under another name
	}
	out.present = out.named
	if out.always && len(held) > 0 {
		out.present = slices.Clone(held)
	}
	d.asks = d.asks || out.always
	d.wants = append(d.wants, out)
	d.Names = append(d.Names, w.Name)
	if s.digest != "" {
		d.Digests = append(d.Digests, s.digest)
	}
	d.Known = d.Known || s.content != nil || s.known
}

// host gives the index of a registry among those of the Demand.
func (d *Demand) host(name string) int {
	if i := slices.Index(d.Hosts, name); i >= 0 {
		return i
	}
	d.Hosts = append(d.Hosts, name)
	d.hosts = append(d.hosts, hostOf{name: name})
	return len(d.hosts) - 1
}

func (c *compiler) holders(digest string) bits {
	if i := c.v.images[digest]; i != nil {
		return i.holders
	}
	return nil
}

// find looks for what the image consists of: by its digest, by the digest that nodes are asked to hold under its name or
// do hold, and last by the newest image of its repository, with which it probably has most layers in common.
func (c *compiler) find(w *Want) source {
	s := source{digest: w.Ref.Digest().String()}
	if n := c.v.names[w.Name]; n != nil && s.digest == "" {
		s.digest = cmp.Or(n.wishedDigest(), n.digest)
		s.known = s.digest != ""
	}
	if i := c.v.images[s.digest]; i != nil {
		s.content, s.size, s.known = i.content, i.size, true
	}
	if s.content == nil {
		s.content, s.guessed = newest(c.v.byRepo[w.Ref.Name()]), true
	}
	return s
}

// newest is the one that was found last.
func newest(all []*content) *content {
	var found *content
	for _, c := range all {
		if found == nil || c.created.After(found.created) || (c.created.Equal(found.created) && c.digest > found.digest) {
			found = c
		}
	}
	return found
}

// platform puts together what the images need on one platform, each layer once.
func (c *compiler) platform(index int, name string) onPlatform {
	_, architecture, _ := strings.Cut(name, "/")
	architecture, _, _ = strings.Cut(architecture, "/")
	p := grouping{out: onPlatform{architecture: architecture}, platform: index, seen: map[*layer]int{}}
	for i, s := range c.sources {
		if s.content == nil {
			// Of what nobody knows anything all nodes have the same: nothing to choose by.
			if s.known {
				p.unseen(s.digest, cmp.Or(s.size, usualSize), i, c.d.wants[i].host)
			}
			continue
		}
		variant := s.content.variantOn(index)
		if variant == nil {
			p.out.absent = true
			continue
		}
		layers := variant.layers
		if s.guessed && len(layers) > 0 {
			// A new tag has something new: its top layer at least.
			p.unseen(c.d.Names[i], layers[len(layers)-1].size, i, c.d.wants[i].host)
			layers = layers[:len(layers)-1]
		}
		for _, l := range layers {
			p.add(l, i, c.d.wants[i].host)
		}
	}
	p.close()
	return p.out
}

// grouping collects layers into groups that the same images have in common.
type grouping struct {
	out      onPlatform
	platform int
	seen     map[*layer]int // group of each layer
	uses     [][]use        // of the layers of each group
}

// unseen adds bytes that no node has.
func (p *grouping) unseen(key string, size int64, image, host int) {
	p.out.groups = append(p.out.groups, group{part: part{key: key, bytes: size}, needed: 1 << image, host: host})
	p.uses = append(p.uses, nil)
	p.out.total += size
}

func (p *grouping) add(l sizedLayer, image, host int) {
	if i, ok := p.seen[l.layer]; ok {
		p.out.groups[i].needed |= 1 << image
		return
	}
	p.out.total += l.size
	for i := range p.out.groups {
		if g := &p.out.groups[i]; p.uses[i] != nil && g.needed == 1<<image && slices.Equal(p.uses[i], l.uses) {
			g.bytes += l.size
			p.seen[l.layer] = i
			return
		}
	}
	p.seen[l.layer] = len(p.out.groups)
	p.out.groups = append(p.out.groups, group{part: part{key: l.digest, bytes: l.size}, needed: 1 << image, host: host})
	p.uses = append(p.uses, l.uses)
}

// close finds who holds each group: whoever holds an image that has it on this platform.
func (p *grouping) close() {
	for i := range p.out.groups {
		g := &p.out.groups[i]
		for _, u := range p.uses[i] {
			if c := u.image.content; c != nil && c.byPlatform[p.platform] == u.variant {
				g.holder.join(u.image.holders)
			}
		}
	}
}

// pulling is an image that an agent says it is pulling, with the bytes that are still to come.
type pulling struct {
	digest string
	left   int64
}

func pullingOf(images []v1alpha1.NodeImageStatus) (pulls []pulling) {
	for i := range images {
		if img := &images[i]; img.Phase == v1alpha1.PhasePulling && img.Digest != "" {
			pulls = append(pulls, pulling{img.Digest, max(0, img.Size-img.BytesPulled)})
		}
	}
	return pulls
}

// pullsOf are the parts that the node's agent says it is pulling, with what is still to come of each.
func (v *Inventory) pullsOf(r *record) (parts []part) {
	for _, p := range r.pulls {
		parts = append(parts, v.pull(r, p)...)
	}
	return parts
}

func (v *Inventory) pull(r *record, of pulling) []part {
	known := v.images[of.digest]
	if r.facts == nil || known == nil || known.content == nil {
		return []part{{key: of.digest, bytes: of.left}}
	}
	variant := known.content.variantOn(r.facts.platform)
	if variant == nil {
		return nil
	}
	p := grouping{platform: r.facts.platform, seen: map[*layer]int{}}
	for _, l := range variant.layers {
		p.add(l, 0, 0)
	}
	p.close()
	return scaled(p.out.groups, r.number, of.left)
}

// scaled are the groups that the node has not, made to add up to left: what was pulled of which of them is not known.
func scaled(groups []group, number int, left int64) (parts []part) {
	var missing int64
	for i := range groups {
		if !groups[i].holder.has(number) {
			parts = append(parts, groups[i].part)
			missing += groups[i].bytes
		}
	}
	if missing > left {
		for i := range parts {
			parts[i].bytes = int64(float64(parts[i].bytes) / float64(missing) * float64(left))
		}
	}
	return parts
}
