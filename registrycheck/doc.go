// Package registrycheck says whether nodes could pull an image, before they have to.
//
// It owns the verdict (Result): Pullable, NotPullable when the image or the rights are
// wrong and waiting does not help, Inconclusive when registry, network or quota gave no
// answer. Each has a Reason, which programs may rely on, the URL that failed, and what
// to do. How registries are reached is access, what a reference stands for is resolve,
// whether the bytes are there is probe.
//
// It never writes to a registry, never runs what it checks, never judges whether a
// signature is valid (it says whether there are any), and without Request.Full never
// downloads a layer.
//
// Invariants:
//
//  1. Every Request gets one Result, in the order given, whatever happens; its verdict
//     is the worst of its platforms': NotPullable before Inconclusive before Pullable.
//  2. Pullable means: every byte that the nodes of these platforms would ask for was
//     shown to be there with these credentials, and nothing in it is of a kind that the
//     runtime refuses.
//  3. An object is asked for once per repository, credential and run, however many
//     images share it.
//  4. Memory is bounded: manifests and configurations by access.MaxBodyBytes, layers are
//     streamed.
//  5. No secret is in a Result.
//
// Failure model: nothing fails but New. A context that ends makes Inconclusive of what
// was not finished, at once.
package registrycheck
