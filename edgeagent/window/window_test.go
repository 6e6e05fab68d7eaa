package window

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // as in the agent: the test's machine may have none
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestAt(t *testing.T) {
	t.Parallel()
	night := []string{"0 1 * * * for 4h in Europe/Lisbon"}
	tests := map[string]struct {
		windows []string
		now     string
		open    bool
		until   string
	}{
		"no windows":                        {nil, "2026-11-23T12:00:00Z", true, ""},
		"before it opens":                   {night, "2026-11-23T00:59:59Z", false, "2026-11-23T01:00:00Z"},
		"as it opens":                       {night, "2026-11-23T01:00:00Z", true, "2026-11-23T05:00:00Z"},
		"in the middle":                     {night, "2026-11-23T03:30:00Z", true, "2026-11-23T05:00:00Z"},
		"as it closes":                      {night, "2026-11-23T05:00:00Z", false, "2026-11-24T01:00:00Z"},
		"the zone's summer":                 {night, "2026-07-01T00:30:00Z", true, "2026-07-01T04:00:00Z"},
		"UTC where no zone is given":        {[]string{"0 1 * * * for 4h"}, "2026-07-01T00:30:00Z", false, "2026-07-01T01:00:00Z"},
		"over midnight":                     {[]string{"0 22 * * * for 8h"}, "2026-11-24T03:00:00Z", true, "2026-11-24T06:00:00Z"},
		"on a weekday":                      {[]string{"0 22 * * 6 for 30h"}, "2026-11-23T12:00:00Z", false, "2026-11-28T22:00:00Z"},
		"two that overlap":                  {[]string{"0 1 * * * for 2h", "0 2 * * * for 2h"}, "2026-11-23T01:30:00Z", true, "2026-11-23T04:00:00Z"},
		"two that follow":                   {[]string{"0 1 * * * for 1h", "0 2 * * * for 1h"}, "2026-11-23T01:30:00Z", true, "2026-11-23T03:00:00Z"},
		"the earlier of two":                {[]string{"0 20 * * * for 1h", "0 18 * * * for 1h"}, "2026-11-23T12:00:00Z", false, "2026-11-23T18:00:00Z"},
		"one that never closes":             {[]string{"0 * * * * for 2h"}, "2026-11-23T12:10:00Z", true, "2026-11-30T14:00:00Z"},
		"clocks put forward: as long":       {[]string{"0 0 * * * for 4h in Europe/Lisbon"}, "2026-03-29T02:00:00Z", true, "2026-03-29T04:00:00Z"},
		"an hour that this day has not":     {[]string{"30 1 * * * for 1h in Europe/Lisbon"}, "2026-03-29T00:30:00Z", false, "2026-03-30T00:30:00Z"},
		"a clock from before the program":   {night, "1970-01-01T03:00:00Z", false, "1970-01-01T03:01:00Z"},
		"no windows, and a clock like that": {nil, "1970-01-01T03:00:00Z", true, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, err := Parse(tc.windows, at(t, "2026-01-01T00:00:00Z"))
			if err != nil {
				t.Fatal(err)
			}
			got := w.At(at(t, tc.now))
			until := ""
			if !got.Until.IsZero() {
				until = got.Until.UTC().Format(time.RFC3339)
			}
			if got.Open != tc.open || until != tc.until || got.Open != (got.Message == "") {
				t.Errorf("open %t until %s (%s), want %t until %s", got.Open, until, got.Message, tc.open, tc.until)
			}
		})
	}
	var none *Windows
	if !none.At(time.Now()).Open {
		t.Error("without windows it is closed")
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	w, err := Parse([]string{"0 1 * * * for 4h"}, at(t, "2026-01-01T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	for now, want := range map[string]string{
		"2026-11-23T12:00:00Z": "the next one opens at 2026-11-24T01:00:00Z",
		"1970-01-01T00:05:00Z": "the clock of this node says 1970-01-01 00:05 UTC, before this program was built (2026-01-01 00:00 UTC)",
	} {
		if got := w.At(at(t, now)).Message; !strings.Contains(got, want) {
			t.Errorf("at %s: %s", now, got)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"0 1 * * 1,3 for 4h in Europe/Lisbon":    "",
		"*/5 * * * * for 1m":                     "",
		"0 1 * * *":                              "says not for how long",
		"":                                       "says not for how long",
		"0 1 * * * for 4 hours":                  `duration "4 hours" must be from 1m to 168h`,
		"0 1 * * * for 30s":                      `duration "30s" must be`,
		"0 1 * * * for 169h":                     `duration "169h" must be`,
		"0 1 * * * for 4h in Lisbon":             `time zone "Lisbon" is not known`,
		"0 1 * * for 4h":                         `cron expression "0 1 * *", minute hour day month weekday, is wrong`,
		"0 25 * * * for 4h":                      "is wrong",
		"@daily for 4h":                          "is wrong",
		"TZ=UTC for 4h":                          "names a zone in its cron expression",
		"0 0 30 2 * for 4h":                      "never comes",
		"0 1 * * * for 4h in ../../../etc/hosts": "is not known",
	} {
		if err := Check(s); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
	if _, err := Parse([]string{"0 1 * * * for 4h", "x"}, time.Time{}); err == nil || !strings.HasPrefix(err.Error(), "window 1: ") {
		t.Errorf("%v does not name the window", err)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("0 1 * * * for 4h in Europe/Lisbon")
	f.Add("TZ= for 4h")
	f.Fuzz(func(t *testing.T, s string) {
		w, err := Parse([]string{s}, time.Time{})
		if err != nil {
			return
		}
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		if v := w.At(now); !v.Until.After(now) {
			t.Errorf("%q: asked at %s, to be asked again at %s", s, now, v.Until)
		}
	})
}
