package inventory

import (
	"slices"

	"edgecache.dev/api/v1alpha1"
)

// SetContent takes in what a digest consists of. Platforms never change; repositories are added.
func (v *Inventory) SetContent(object *v1alpha1.ImageContent) {
	digest := v1alpha1.ContentDigest(object.Name).String()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forgetContent(digest)
	c := newContent(digest, object, v.layer)
	for _, p := range v.platforms {
		c.byPlatform = append(c.byPlatform, c.variantFor(p))
	}
	v.contents[digest] = c
	for _, repository := range c.repositories {
		v.byRepo[repository] = append(v.byRepo[repository], c)
	}
	for i := range c.variants {
		v.use(c, i)
	}
	v.generation++
	v.repull(digest)
}

// repull works out anew what is on its way to the nodes that pull the digest: only now is known what it consists of.
func (v *Inventory) repull(digest string) {
	for _, r := range v.records {
		if slices.ContainsFunc(r.pulls, func(p pulling) bool { return p.digest == digest }) {
			v.flights.report(r.Node, v.pullsOf(r))
		}
	}
}

// use makes the images known that hold a variant's layers: the index by its digest, and the variant by its manifest's.
func (v *Inventory) use(c *content, variant int) {
	for _, digest := range c.digests(variant) {
		i := v.image(digest)
		if i.content == nil || digest == c.digest {
			i.content = c
		}
		for _, l := range c.variants[variant].layers {
			if u := (use{i, variant}); !slices.Contains(l.uses, u) {
				l.uses = append(l.uses, u)
			}
		}
	}
}

// digests are those under which nodes may hold a variant.
func (c *content) digests(variant int) []string {
	if manifest := c.variants[variant].manifest; manifest != "" && manifest != c.digest {
		return []string{c.digest, manifest}
	}
	return []string{c.digest}
}

// ForgetContent takes in that an ImageContent is gone.
func (v *Inventory) ForgetContent(digest string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forgetContent(digest)
}

func (v *Inventory) forgetContent(digest string) {
	c := v.contents[digest]
	if c == nil {
		return
	}
	delete(v.contents, digest)
	for _, repository := range c.repositories {
		v.byRepo[repository] = slices.DeleteFunc(v.byRepo[repository], func(o *content) bool { return o == c })
		if len(v.byRepo[repository]) == 0 {
			delete(v.byRepo, repository)
		}
	}
	for i := range c.variants {
		v.disuse(c, i)
	}
	v.generation++
}

func (v *Inventory) disuse(c *content, variant int) {
	for _, digest := range c.digests(variant) {
		i := v.images[digest]
		if i == nil || i.content != c {
			continue
		}
		for _, l := range c.variants[variant].layers {
			l.uses = slices.DeleteFunc(l.uses, func(u use) bool { return u == use{i, variant} })
			if len(l.uses) == 0 {
				delete(v.layers, l.digest)
			}
		}
		if variant == len(c.variants)-1 || digest != c.digest {
			i.content = nil
			v.collectImage(i)
		}
	}
}

func (v *Inventory) layer(digest string) *layer {
	l := v.layers[digest]
	if l == nil {
		l = &layer{digest: digest}
		v.layers[digest] = l
	}
	return l
}
