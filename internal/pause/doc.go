// Package pause waits for a while or for a time, or until there is no reason to wait any more.
package pause
