package explain

import (
	"fmt"
	"time"

	"edgecache.dev/scheduler-plugin/scoring"
)

// Words says of a node what a pod's images need there until they are ready, such as
// "270 MB of 312 MB are there, the rest takes about 6s".
func Words(e *scoring.Estimate) string {
	switch e.Why {
	case scoring.WhyCached:
		if e.AsksRegistry {
			return fmt.Sprintf("all %s are there, a registry is asked nevertheless", bytes(e.Total))
		}
		return fmt.Sprintf("all %s are there", bytes(e.Total))
	case scoring.WhyJoins:
		return fmt.Sprintf("%s of %s are there, the rest is on its way and takes about %s", bytes(e.Shared()), bytes(e.Total), duration(e))
	case scoring.WhyPartly:
		return fmt.Sprintf("%s of %s are there, the rest takes about %s", bytes(e.Shared()), bytes(e.Total), duration(e))
	case scoring.WhyEmpty:
		return fmt.Sprintf("none of %s is there, they take about %s", bytes(e.Total), duration(e))
	case scoring.WhyUnknown:
		return fmt.Sprintf("no agent tells what is there; as far as is known %s of %s, the rest takes about %s", bytes(e.Shared()), bytes(e.Total), duration(e))
	default:
		return Bar(e)
	}
}

// Bar says why a pod does not start on a node as things are.
func Bar(e *scoring.Estimate) string {
	switch e.Why {
	case scoring.WhyOffline:
		if e.Missing == 0 {
			return "all images are there, but a registry has to be asked, which is out of reach"
		}
		return fmt.Sprintf("%s of %s are missing, and a registry is out of reach", bytes(e.Missing), bytes(e.Total))
	case scoring.WhyNeverPulled:
		return "an image is missing, and imagePullPolicy is Never"
	case scoring.WhyNoRoom:
		return fmt.Sprintf("the disk has no room for the %s that are missing", bytes(e.Missing))
	case scoring.WhyOtherPlatform:
		return "an image has nothing for the platform of the node"
	default:
		return ""
	}
}

// duration is a ready time to a precision that the estimate has.
func duration(e *scoring.Estimate) string { return roughly(e.Ready()).String() }

func roughly(d time.Duration) time.Duration {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond)
	default:
		return d.Round(time.Second)
	}
}

// bytes is an amount to three digits, in units of a thousand, as links are sold.
func bytes(n int64) string {
	value, unit := float64(n), 0
	for units := len(units) - 1; value >= 999.5 && unit < units; unit++ {
		value /= 1000
	}
	digits := 0
	if unit > 0 && value < 9.95 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, value, units[unit])
}

var units = [...]string{"B", "kB", "MB", "GB", "TB"}
