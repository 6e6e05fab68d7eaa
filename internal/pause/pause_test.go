package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if !For(t.Context(), time.Hour) || time.Since(begin) != time.Hour {
			t.Errorf("waited %s, want 1h", time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin = time.Now()
		if For(ctx, time.Hour) || time.Since(begin) != time.Minute {
			t.Errorf("waited %s, want 1m, when the context ended", time.Since(begin))
		}
	})
}

func TestAt(t *testing.T) {
	t.Parallel()
	if At(time.Time{}) != nil {
		t.Error("the zero time comes")
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if <-At(begin.Add(time.Hour)); time.Since(begin) != time.Hour {
			t.Errorf("fired after %s, want 1h", time.Since(begin))
		}
		if <-At(begin); time.Since(begin) != time.Hour {
			t.Error("a time that has been is waited for")
		}
	})
}
