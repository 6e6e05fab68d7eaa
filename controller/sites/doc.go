// Package sites turns tags into digests, once per site, out of what the agents of the site
// found in their registries (spec.resolve: Node).
//
// It owns the table of what each tag stands for in each site. It asks no registry and
// writes no object.
//
// Invariants:
//
//  1. A tag stands for one digest in a site. The first that any of its agents reports is
//     kept; it moves only to what an agent found while the kept one was wished, in answer
//     to a refresh token that nobody has answered for the kept one, or where the tag is
//     asked for again and again. Agents that come to a kept digest do not answer the token
//     that they find beside it; a refresh that is under way they leave to the others.
//  2. An agent speaks for the site of its Node, and for tags that its spec has it resolve.
//     What is no digest is not heard.
//  3. A digest that stands in the spec of a node of the site is never forgotten.
//
// The table is memory only: the specs of the site's nodes are the record. Where they
// disagree, because a controller ended between two writes, the answer to the present
// refresh token counts, then what most nodes that are ready have (a rollout leaves the others
// behind), then what most have, then the smallest digest.
package sites
