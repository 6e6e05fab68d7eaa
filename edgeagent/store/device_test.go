package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"edgecache.dev/test/lab/powercut"
)

// deviceBytes gives how many bytes the device below a folder was given to write.
func deviceBytes(tb testing.TB, dir string) int64 {
	tb.Helper()
	var info unix.Stat_t
	if err := unix.Stat(dir, &info); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(uint64(info.Dev)), unix.Minor(uint64(info.Dev)))) //nolint:unconvert // is not the same on all platforms
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(b))[6], 10, 64) // sectors of 512 bytes, whatever the device has
	if err != nil {
		tb.Fatal(err)
	}
	return n * 512
}

// BenchmarkDeviceBytes measures what one write of each kind costs an SD card, with a ledger of 50 images: on ext4, behind
// a loop device, which needs root.
func BenchmarkDeviceBytes(b *testing.B) {
	for name, change := range map[string]func(int) Change{
		"ledger entry and record": func(n int) Change {
			c := note("r.io/app:v1", noon)
			c.Save = []Entry{{Name: "docker.io/library/app001:v1", Digest: strconv.Itoa(n)}}
			return c
		},
		"wish of 50 images": func(n int) Change {
			d := wished(int64(n))
			for _, e := range entries(50) {
				img := d.Spec.Images[0]
				img.Name, img.Digest = e.Name, e.Digest
				d.Spec.Images = append(d.Spec.Images, img)
			}
			return Change{Desired: &d}
		},
		"nothing new": func(int) Change { return Change{Save: entries(50)} },
	} {
		b.Run(name, func(b *testing.B) {
			disk := powercut.New(b, powercut.Ext4, 64<<20)
			s, _, err := Open(b.Context(), filepath.Join(disk.Dir(), "state"), "n1", inChild)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = s.Close() })
			if err := s.Write(Change{Save: entries(50)}); err != nil {
				b.Fatal(err)
			}
			unix.Sync()
			before, n := deviceBytes(b, disk.Dir()), 0
			for b.Loop() {
				n++
				if err := s.Write(change(n)); err != nil {
					b.Fatal(err)
				}
			}
			unix.Sync()
			b.ReportMetric(float64(deviceBytes(b, disk.Dir())-before)/float64(n), "device-B/op")
		})
	}
}
