// Package extract finds the images that manifests name.
//
// It owns the reading of manifests, from files, folders and standard input, and the
// search in them: any object that carries a pod template wherever that is (containers of
// all three kinds, image volumes), ImageCaches, Lists of such objects, and the objects of a
// cluster once they are there as maps. It also hands out what a manifest says about how its
// images are pulled: pull Secrets, ServiceAccounts, the nodes for which they are meant.
//
// It never asks a registry or a cluster, never expands a template, and never guesses at
// images in fields whose meaning it does not know.
//
// Invariants:
//
//  1. Every Finding says where it was found: file and line, or the object, and the field.
//  2. Nothing is left out silently. What cannot be read is an *InputError with file and
//     line, and everything else is read none the less. What is known not to be pulled is a
//     Note.
//  3. Input is bounded: MaxFile bytes of a file, MaxDocument of one document, MaxNodes
//     values in it with aliases followed, maxDepth levels.
//  4. No text of a Secret is in an error, a Finding or a Note.
//
// Where a pod template is in objects of unknown kinds is found by its shape: a map with a
// list "containers" (or "initContainers", "ephemeralContainers") of maps that name an
// image. metadata and status are not searched, nor are CustomResourceDefinitions. Argo
// Workflows and Tekton Tasks have containers in fields of their own names, which are known.
//
// Failure model: an Inputs that has errors is worth using for what it did read.
package extract
