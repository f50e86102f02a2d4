package testmachine

import (
	"errors"
	"os/exec"
	"testing"
	"time"
)

// TestOutputEnds has a command that does not end, and a child of it that holds its output open.
func TestOutputEnds(t *testing.T) {
	begun := time.Now()
	out, err := outputWithin(200*time.Millisecond, exec.Command("sh", "-c", "sleep 300 & echo begun; wait"))
	if out != "begun" || !errors.Is(err, errLate) {
		t.Errorf("output %q and error %v, wanted %q and %v", out, err, "begun", errLate)
	}
	// A child that lives on would have been waited for.
	if took := time.Since(begun); took > outputTime {
		t.Errorf("it took %s", took)
	}
}
