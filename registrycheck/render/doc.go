// Package render writes what a check found, for people and for programs.
//
// It owns the forms of output: a table, json, yaml, JUnit XML, SARIF 2.1.0, annotations
// for GitHub workflows, markdown; and the line that tells on a terminal how far a check is.
// It never decides anything: verdicts, drift and downloads are given to it.
//
// Invariants:
//
//  1. The same Report gives the same bytes: no form has a time in it.
//  2. What registries and manifests say cannot break a form, nor send commands to a
//     terminal or to a workflow: it is escaped, control characters are left out.
//  3. Everything that is in one form is in json; the others leave out details.
//
// Failure model: only writing fails.
package render
