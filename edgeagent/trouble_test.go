package edgeagent

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// TestTroubleIsLoggedOnceInAWhile: a runtime that is away for a day costs few log lines.
func TestTroubleIsLoggedOnceInAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ctx := klog.NewContext(t.Context(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log))))
		var tr trouble
		for range 24 * 60 * 12 {
			tr.note(ctx, withRuntime, errors.New("connection refused"), "Away")
			time.Sleep(5 * time.Second)
		}
		tr.note(ctx, withStore, errors.New("disk full"), "Not written")
		if got := tr.String(); got != "connection refused; disk full" {
			t.Errorf("trouble = %q", got)
		}
		tr.note(ctx, withRuntime, nil, "")
		tr.note(ctx, withStore, nil, "")
		if got := tr.String(); got != "" {
			t.Errorf("trouble = %q after it is over", got)
		}
		if lines := strings.Count(log.String(), "\n"); lines < 140 || lines > 150 {
			t.Errorf("%d lines in a day, want one every 10 minutes", lines)
		}
	})
}

// TestTroubleIsBrief: the joined errors of a thousand names fill neither log nor status.
func TestTroubleIsBrief(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	ctx := klog.NewContext(t.Context(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log))))
	var tr trouble
	tr.note(ctx, withTidying, errors.New(strings.Repeat("removing r.io/app:v1: refused\n", 1000)), "Not removed")
	if log.Len() > 2000 || len(tr.String()) > 2000 {
		t.Errorf("%d bytes logged, %d bytes of trouble", log.Len(), len(tr.String()))
	}
}
