package local

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/report"
)

// Table writes a status for people: what is the matter first, then the images. A wide one
// has digests and whole messages.
func (s *Status) Table(out io.Writer, wide bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, line := range s.headings() {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(s.Images) == 0 {
		_, err := fmt.Fprintln(out, "\nNo images are wished here.")
		return err
	}
	w = tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "\nIMAGE\tPHASE\tSIZE\t")
	if wide {
		fmt.Fprint(w, "DIGEST\tSINCE\t")
	}
	fmt.Fprintln(w, "DETAIL")
	for i := range s.Images {
		img := &s.Images[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t", img.Name, img.Phase, size(img.Size))
		if wide {
			fmt.Fprintf(w, "%s\t%s\t", cmp.Or(img.Digest, "-"), since(img.Since))
		}
		fmt.Fprintln(w, detail(img, wide))
	}
	return w.Flush()
}

// headings are the lines above the images.
func (s *Status) headings() [][2]string {
	lines := [][2]string{
		{"Node:", strings.TrimSpace(s.Node + "  " + s.images())},
		{"Agent:", s.agent()},
		{"Runtime:", s.runtime()},
	}
	if s.ClockNotSet {
		lines = append(lines, [2]string{"Clock:", "not set: it says " + since(&s.Time)})
	}
	if s.Disk != nil {
		text := fmt.Sprintf("%s free of %s", report.HumanBytes(s.Disk.Available), report.HumanBytes(s.Disk.Capacity))
		if s.Disk.Reserve > 0 {
			text += fmt.Sprintf(", %s of it kept free", report.HumanBytes(s.Disk.Reserve))
		}
		lines = append(lines, [2]string{"Disk:", text})
	}
	if s.APIServer != nil {
		lines = append(lines, [2]string{"API server:", s.APIServer.String()})
	}
	for i := range s.Links {
		lines = append(lines, [2]string{"Registry:", link(&s.Links[i])})
	}
	for _, c := range s.Conditions {
		if c.Type != v1alpha1.NodeConditionReady && c.Status == metav1.ConditionTrue {
			lines = append(lines, [2]string{c.Type + ":", c.Message})
		}
	}
	return lines
}

func (s *Status) images() string {
	parts := []string{fmt.Sprintf("%d of %d images cached", s.Summary.Cached, s.Summary.Wished)}
	for _, part := range []struct {
		n    int
		what string
	}{{s.Summary.Pulling, "pulling"}, {s.Summary.Pending, "pending"}, {s.Summary.Failed, "failing"}, {s.Summary.Removing, "being removed"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	text := strings.Join(parts, ", ")
	if !s.WishHeard {
		text += " (nobody has said yet what this node should hold)"
	}
	if s.Source == FromMemory {
		text += " (as remembered: the runtime has not been looked at yet)"
	}
	return text
}

func (s *Status) agent() string {
	if s.UptimeSeconds == 0 {
		return "does not run"
	}
	return fmt.Sprintf("%s, running for %s", cmp.Or(s.AgentVersion, "unknown version"), round(s.UptimeSeconds))
}

func (s *Status) runtime() string {
	text := strings.TrimSpace(s.Runtime.Name + " " + s.Runtime.Version)
	switch {
	case s.Runtime.Error != "":
		return strings.TrimSpace(text + " does not answer: " + s.Runtime.Error)
	case text == "":
		return "not heard yet"
	case s.Runtime.Snapshotter != "":
		text += ", " + s.Runtime.Snapshotter
	}
	return text
}

// String tells the link to the API server in one line.
func (a *APIServer) String() string {
	heard := "never heard since the agent was started"
	if a.HeardSecondsAgo != nil {
		heard = fmt.Sprintf("heard %s ago", round(*a.HeardSecondsAgo))
	}
	if a.Error != "" {
		return heard + ", does not answer: " + a.Error
	}
	return heard
}

func link(r *v1alpha1.RegistryStatus) string {
	how := map[metav1.ConditionStatus]string{metav1.ConditionTrue: "up", metav1.ConditionFalse: "down"}[r.Reachable]
	text := r.Host + " " + cmp.Or(how, "not known")
	if !r.Since.IsZero() {
		text += " since " + since(&r.Since)
	}
	return text
}

// detail is what is to be said of one image.
func detail(img *Image, wide bool) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if img.Phase == v1alpha1.PhasePulling {
		add("%s", progress(img))
	}
	if img.Reason != "" {
		add("%s", img.Reason)
	}
	if img.Message != "" {
		add("%s", line(img.Message, wide))
	}
	if img.Attempts > 0 {
		add("%d attempts failed", img.Attempts)
	}
	if img.RetryInSeconds != nil {
		add("next in %s", round(float64(*img.RetryInSeconds)))
	}
	if img.Current != "" {
		add("pods start from %s", short(img.Current, wide))
	}
	return strings.Join(parts, "; ")
}

func progress(img *Image) string {
	text := report.HumanBytes(img.BytesPulled)
	if img.Size > 0 {
		text = fmt.Sprintf("%d%% of %s", 100*img.BytesPulled/img.Size, report.HumanBytes(img.Size))
	}
	text += " at " + report.HumanBytes(img.BytesPerSecond) + "/s"
	if img.SecondsLeft != nil {
		text += fmt.Sprintf(", %s left", round(float64(*img.SecondsLeft)))
	}
	return text
}

// maxMessage is how much of a message a table that is not wide has, in characters.
const maxMessage = 120

// line makes one line of a message.
func line(message string, wide bool) string {
	message = strings.Join(strings.Fields(message), " ")
	if runes := []rune(message); !wide && len(runes) > maxMessage {
		return string(runes[:maxMessage-1]) + "…"
	}
	return message
}

func short(digest string, wide bool) string {
	if length := len("sha256:") + 12; !wide && len(digest) > length {
		return digest[:length]
	}
	return digest
}

func size(n int64) string {
	if n == 0 {
		return "-"
	}
	return report.HumanBytes(n)
}

func since(t *metav1.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// round gives seconds as a duration with as many digits as anybody needs.
func round(seconds float64) time.Duration {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d > time.Hour:
		return d.Round(time.Minute)
	case d > 10*time.Second:
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}
