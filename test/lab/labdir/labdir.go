package labdir

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"edgecache.dev/test/lab/cgroup"
)

// A Dir is a lab's folder, held by this process.
type Dir struct {
	path  string
	entry string // the lab's file in the list
	lock  *os.File
	record
}

// record is the content of a lab's file.
type record struct {
	// ID tells the lab apart from all others on the machine; its control groups and network devices carry it.
	ID string `json:"id"`
	// Temporary is the lab's folder if it goes with the lab, else empty.
	Temporary string `json:"temporary,omitempty"`
}

// Create makes the folder of a new lab: at path, which stays when the lab ends, or a temporary one if path is empty.
func Create(path string) (*Dir, error) {
	list, err := ensureList()
	if err != nil {
		return nil, fmt.Errorf("making the lab's folder: %w", err)
	}
	for {
		d, err := create(list, path)
		if !errors.Is(err, errSwept) {
			if err != nil {
				return nil, fmt.Errorf("making the lab's folder: %w", err)
			}
			return d, nil
		}
	}
}

// errSwept says that a sweep took the new file for a dead lab's, in the instant before it was locked.
var errSwept = errors.New("swept away")

func create(list, path string) (*Dir, error) {
	d := &Dir{record: record{ID: newID()}, path: path}
	d.entry = filepath.Join(list, d.ID+".lab")
	var err error
	if d.lock, err = os.OpenFile(d.entry, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := d.fill(list); err != nil {
		return nil, errors.Join(err, d.abandon(err))
	}
	return d, nil
}

// abandon gives up a lab that could not be made. Its file is gone already if that is why.
func (d *Dir) abandon(why error) error {
	err := d.lock.Close()
	if !errors.Is(why, errSwept) {
		err = errors.Join(err, os.Remove(d.entry))
	}
	return err
}

// fill locks the lab's file, makes the folder and writes down what belongs to the lab.
func (d *Dir) fill(list string) error {
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(d.entry); err != nil {
		return errSwept
	}
	if d.path == "" {
		d.path = filepath.Join(list, d.ID)
		d.Temporary = d.path
	} else if entries, err := os.ReadDir(d.path); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: a lab cannot take over another's data", d.path)
	}
	if err := json.NewEncoder(d.lock).Encode(d.record); err != nil {
		return err
	}
	return os.MkdirAll(d.path, 0o755)
}

// newID returns six letters and digits: short, as the name of a network device has 15 bytes at most.
func newID() string { return strings.ToLower(rand.Text()[:6]) }

// ensureList makes the folder that lists this user's labs, if need be, and returns it.
func ensureList() (string, error) {
	list := filepath.Join(os.TempDir(), fmt.Sprintf("edgecache-labs-%d", os.Getuid()))
	if err := os.MkdirAll(list, 0o755); err != nil {
		return "", err
	}
	var stat unix.Stat_t
	if err := unix.Lstat(list, &stat); err != nil {
		return "", err
	}
	// Anyone may make a folder in /tmp: what is removed here must be ours.
	if int(stat.Uid) != os.Getuid() || stat.Mode&unix.S_IFMT != unix.S_IFDIR || stat.Mode&0o022 != 0 {
		return "", fmt.Errorf("%s is not a folder of this user alone", list)
	}
	return list, nil
}

// Path returns the lab's folder.
func (d *Dir) Path() string { return d.path }

// Lab returns the lab's identity: six letters and digits.
func (d *Dir) Lab() string { return d.ID }

// Entry returns the path of the lab's file in the list, by which a janitor finds the lab.
func (d *Dir) Entry() string { return d.entry }

// Cgroup returns the name of the control group below which all of the lab's lie.
func (d *Dir) Cgroup() string { return d.cgroup() }

func (r record) cgroup() string { return "edgecache-lab-" + r.ID }

// Close removes the lab's folder, unless the caller had chosen it, and its control groups. It may be called again.
func (d *Dir) Close() error {
	defer func() { _ = d.lock.Close() }()
	return d.clear(d.entry)
}

// clear removes what a lab left; the caller holds its lock.
func (r record) clear(entry string) error {
	err := cgroup.Remove(r.cgroup())
	if r.Temporary != "" {
		err = errors.Join(err, removeAll(r.Temporary))
	}
	if err != nil {
		// The file stays, so that a later sweep tries again.
		return fmt.Errorf("clearing away lab %s: %w", r.ID, err)
	}
	if err := os.Remove(entry); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clearing away lab %s: %w", r.ID, err)
	}
	return nil
}

const (
	// removeTimeout bounds the removal of a dead lab's folder: the kernel drops a process's locks a little before it kills
	// that process's children, who may go on writing for an instant, which is long on a busy machine.
	removeTimeout = 2 * time.Minute
	removePoll    = 50 * time.Millisecond
)

func removeAll(path string) error {
	for deadline := time.Now().Add(removeTimeout); ; time.Sleep(removePoll) {
		err := os.RemoveAll(path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
