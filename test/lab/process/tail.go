package process

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	// tailLines is how many log lines an error quotes: enough for a panic's first goroutine or a flag error.
	tailLines = 15
	// tailBytes bounds what is read for them.
	tailBytes = 16 << 10
)

// An EndedError says that a program has ended though it was expected to run.
type EndedError struct {
	// Name is the command's name.
	Name string
	// After is how long it ran.
	After time.Duration
	// Log is the path of its log file.
	Log string
	// Err says how it ended.
	Err error
}

func (e *EndedError) Error() string {
	return fmt.Sprintf("%s ended after %s: %v%s", e.Name, e.After.Round(time.Millisecond), e.Err, quoteTail(e.Log))
}

// Unwrap returns how the program ended.
func (e *EndedError) Unwrap() error { return e.Err }

// quoteTail returns the end of a log in the form that follows a message.
func quoteTail(path string) string {
	text, err := Tail(path, tailLines)
	switch {
	case path == "":
		return ""
	case err != nil:
		return fmt.Sprintf(" (its log cannot be read: %v)", err)
	case text == "":
		return fmt.Sprintf(" (its log %s is empty)", path)
	default:
		return fmt.Sprintf("; the end of %s:\n%s", path, text)
	}
}

// Tail returns the last lines of the file at path, at most n.
func Tail(path string, n int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
		// A file shorter than tailBytes cannot be sought that far back: it is read from its beginning.
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n"), nil
}
