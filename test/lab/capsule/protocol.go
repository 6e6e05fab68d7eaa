package capsule

import (
	"encoding/json"
	"io"
	"sync"
)

// socketFD is the descriptor of a capsule's end of the socket.
const socketFD = 3

// Before any message the outside sends one byte: whether the capsule shall have a control group namespace. It does so
// when the inside is in the group that is to be the namespace's root.
const (
	withCgroups    byte = 'c'
	withoutCgroups byte = '-'
)

// A Setup says what the world inside looks like, where it differs from the one outside.
type Setup struct {
	// Cgroups says that the capsule has a control group namespace, so that the hierarchies are to be mounted anew.
	Cgroups bool `json:"cgroups,omitempty"`
	// Hostname is the capsule's.
	Hostname string `json:"hostname,omitempty"`
	// Covers are folders that take the place of others, say of /run.
	Covers []Cover `json:"covers,omitempty"`
	// Keep are paths that stay visible though they lie below a covered folder.
	Keep []string `json:"keep,omitempty"`
	// Overlays are folders that show what they hold and take changes, which stay in the capsule.
	Overlays []Overlay `json:"overlays,omitempty"`
	// Shadows are files below /proc that show this content, and take no other.
	Shadows map[string]string `json:"shadows,omitempty"`
	// ShadowDir is a folder for what the shadows show; needed if there are any.
	ShadowDir string `json:"shadowDir,omitempty"`
	// Settings are files below /proc/sys and what to write to them.
	Settings map[string]string `json:"settings,omitempty"`
}

// A Cover puts the folder Source in the place of Target.
type Cover struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

// An Overlay keeps what is changed below the folder Target in the folder Source, across capsules.
type Overlay struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

// request asks the inside for one thing: the field that is not nil.
type request struct {
	ID     int     `json:"id"`
	Setup  *Setup  `json:"setup,omitempty"`
	Start  *start  `json:"start,omitempty"`
	Signal *signal `json:"signal,omitempty"`
	Run    *run    `json:"run,omitempty"`
}

// start asks to start a program.
type start struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir,omitempty"`
	Log  string   `json:"log,omitempty"`
}

// signal asks to signal a program that was started.
type signal struct {
	Pid    int `json:"pid"`
	Signal int `json:"signal"`
}

// run asks to run a command to its end.
type run struct {
	Argv []string `json:"argv"`
}

// message is what the inside says: the field that is not nil.
type message struct {
	Reply *reply `json:"reply,omitempty"`
	Ended *ended `json:"ended,omitempty"`
}

// reply answers the request with the same ID.
type reply struct {
	ID    int    `json:"id"`
	Error string `json:"error,omitempty"`
	// Pid is the started program's process id.
	Pid int `json:"pid,omitempty"`
	// Status and Output are how a command ended and what it printed.
	Status uint32 `json:"status,omitempty"`
	Output string `json:"output,omitempty"`
}

// ended tells that a started program has ended with a wait status.
type ended struct {
	Pid    int    `json:"pid"`
	Status uint32 `json:"status"`
}

// sender writes JSON values to a socket, one at a time.
type sender struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func newSender(w io.Writer) *sender { return &sender{encoder: json.NewEncoder(w)} }

func (s *sender) send(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.encoder.Encode(v)
}
