package extract

import (
	"errors"
	"fmt"
	"iter"

	"go.yaml.in/yaml/v3"
)

// errTooLarge and errTooDeep end the reading of a document.
var (
	errTooLarge = fmt.Errorf("has more than %d values with its aliases: split it", MaxNodes)
	errTooDeep  = fmt.Errorf("is nested deeper than %d levels", maxDepth)
)

// value is one value of a document. It follows aliases.
type value struct{ node *yaml.Node }

// fromNode follows an alias. The parser gives none that leads to itself through others.
func fromNode(n *yaml.Node) value {
	for hops := 0; n != nil && n.Kind == yaml.AliasNode && hops < maxDepth; hops++ {
		n = n.Alias
	}
	return value{n}
}

func (v value) is(kind yaml.Kind) bool { return v.node != nil && v.node.Kind == kind }

func (v value) isMap() bool  { return v.is(yaml.MappingNode) }
func (v value) isList() bool { return v.is(yaml.SequenceNode) }

// line is that of the value in its document.
func (v value) line() int {
	if v.node == nil {
		return 0
	}
	return v.node.Line
}

// text gives a string, "" for anything else. What a tool would read as a number is text
// here too: an image named 1234 is one.
func (v value) text() string {
	if !v.is(yaml.ScalarNode) || v.node.Tag == "!!null" {
		return ""
	}
	return v.node.Value
}

// at gives what a map has under a key, and what that has under the next. Nothing gives
// nothing.
func (v value) at(keys ...string) value {
	for _, key := range keys {
		v = v.get(key)
	}
	return v
}

func (v value) get(key string) value {
	if !v.isMap() {
		return value{}
	}
	merges := false
	for i := len(v.node.Content) - 2; i >= 0; i -= 2 {
		switch v.node.Content[i].Value {
		case key:
			return fromNode(v.node.Content[i+1])
		case mergeKey:
			merges = true
		}
	}
	if !merges {
		return value{}
	}
	for name, child := range v.entries() {
		if name == key {
			return child
		}
	}
	return value{}
}

// entries gives the keys and values of a map: of keys that are there twice the last, as
// Kubernetes does, then those that are merged in and not there.
func (v value) entries() iter.Seq2[string, value] {
	return func(yield func(string, value) bool) { v.each(map[string]bool{}, yield, 0) }
}

func (v value) each(seen map[string]bool, yield func(string, value) bool, depth int) bool {
	if !v.isMap() || depth > maxDepth {
		return true
	}
	last, merged := map[string]int{}, []value{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.node.Content[i].Value
		if last[key] = i; key == mergeKey {
			merged = append(merged, fromNode(v.node.Content[i+1]))
		}
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.node.Content[i].Value
		if key == mergeKey || last[key] != i || seen[key] {
			continue
		}
		if seen[key] = true; !yield(key, fromNode(v.node.Content[i+1])) {
			return false
		}
	}
	for _, m := range merged {
		for _, one := range m.items() { // <<: [*a, *b]
			if !one.each(seen, yield, depth+1) {
				return false
			}
		}
		if !m.each(seen, yield, depth+1) {
			return false
		}
	}
	return true
}

// mergeKey takes the entries of other maps into one.
const mergeKey = "<<"

// items gives the elements of a list.
func (v value) items() iter.Seq2[int, value] {
	return func(yield func(int, value) bool) {
		if !v.isList() {
			return
		}
		for i, n := range v.node.Content {
			if !yield(i, fromNode(n)) {
				return
			}
		}
	}
}

// decode fills a typed value.
func (v value) decode(into any) error {
	if v.node == nil {
		return nil
	}
	return decodeJSON(v.node, into)
}

// bounded says what is wrong with the size of a document. A few bytes of aliases can stand
// for more values than fit into any memory, and an alias can lead back to itself.
func bounded(n *yaml.Node) error {
	left := MaxNodes
	return spend(n, &left, 0)
}

func spend(n *yaml.Node, left *int, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if *left--; *left < 0 {
		return errTooLarge
	}
	if n.Kind == yaml.AliasNode {
		if n.Alias == nil {
			return errors.New("has an alias of nothing")
		}
		return spend(n.Alias, left, depth+1)
	}
	for _, c := range n.Content {
		if err := spend(c, left, depth+1); err != nil {
			return err
		}
	}
	return nil
}
