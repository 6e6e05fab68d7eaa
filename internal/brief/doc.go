// Package brief shortens texts to what a field of an API object has room for.
//
// It owns the mark that says that something is missing. It knows no field and no limit.
package brief
