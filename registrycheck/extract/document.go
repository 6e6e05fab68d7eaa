package extract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one document of a file.
type document struct {
	file     string
	line     int    // before its first line: line 1 of the text is line+1 of the file
	template string // what helm says it was made of
	text     []byte
}

// Parse adds what a file's text has in it: YAML or JSON, several documents with ---
// between them or, in JSON, one after the other.
func (in *Inputs) Parse(file string, data []byte) {
	for _, d := range split(file, data) {
		in.parseDocument(d)
	}
}

// split cuts at lines that begin with ---. No document can hold one: YAML ends even a
// block of text there.
func split(file string, data []byte) []document {
	var all []document
	d := document{file: file}
	line := 0
	for rest := data; len(rest) > 0; {
		text, tail, _ := bytes.Cut(rest, []byte("\n"))
		whole := rest[:len(rest)-len(tail)]
		rest = tail
		line++
		if !separates(text) {
			d.text = append(d.text, whole...)
			continue
		}
		all = append(all, d)
		d = document{file: file, line: line}
		if after := bytes.TrimSpace(text[3:]); len(after) > 0 && after[0] != '#' {
			d.line--
			d.text = append(d.text, append(bytes.Repeat([]byte(" "), 3), whole[3:]...)...)
		}
	}
	return append(all, d)
}

func separates(line []byte) bool {
	return bytes.HasPrefix(line, []byte("---")) && (len(line) == 3 || strings.ContainsRune(" \t\r", rune(line[3])))
}

// made is how helm says of which file a document was made.
var made = regexp.MustCompile(`(?m)^# Source: (\S+)\s*$`)

func (in *Inputs) parseDocument(d document) {
	if len(d.text) > MaxDocument {
		in.fail(d.file, d.line+1, fmt.Errorf("the document that begins here is longer than %d MiB: split it", MaxDocument>>20))
		return
	}
	if m := made.FindSubmatch(d.text[:min(len(d.text), 1024)]); m != nil {
		d.template = string(m[1])
	}
	decoder := yaml.NewDecoder(bytes.NewReader(d.text))
	for {
		var root yaml.Node
		err := decode(decoder, &root)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			line, message := explain(err)
			in.fail(d.file, d.line+max(line, 1), message)
			return
		}
		in.readDocument(d, &root)
	}
}

// decode turns a panic of the parser into an error: what it parses is anybody's.
func decode(decoder *yaml.Decoder, root *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: the parser gave up: %v", r)
		}
	}()
	return decoder.Decode(root)
}

// place is how the parser says where.
var place = regexp.MustCompile(`^yaml: (?:line (\d+)(?:, column \d+)?: )?`)

// explain takes the line out of the parser's message, and says what else may be wrong.
func explain(err error) (line int, message error) {
	text := err.Error()
	if m := place.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1]) // 0 without
		text = text[len(m[0]):]
	}
	return line, errors.New("not YAML or JSON: " + text)
}
