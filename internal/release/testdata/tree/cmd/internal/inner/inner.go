// Package inner is no program.
package inner
