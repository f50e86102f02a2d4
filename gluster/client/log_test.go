package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestRotateLog rotates logs for a client that opens a new one, and for one that
// cannot.
func TestRotateLog(t *testing.T) {
	t.Run("reopen", func(t *testing.T) {
		testRotateLog(t, func(t *testing.T, log string, limit int64, want bool) {
			reopened := false
			if err := RotateLog(log, limit, func() error { reopened = true; return nil }); err != nil {
				t.Fatal(err)
			}
			if reopened != want {
				t.Errorf("reopened is %v", reopened)
			}
		})
	})
	t.Run("keep open", func(t *testing.T) {
		testRotateLog(t, func(t *testing.T, log string, limit int64, _ bool) {
			if err := RotateOpenLog(log, limit); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func testRotateLog(t *testing.T, rotate func(t *testing.T, log string, limit int64, want bool)) {
	const limit = 10
	tests := []struct {
		doc   string
		files []string // contents of log, log.1, log.2, …; "" for none
		want  []string
	}{
		{doc: "no log", files: []string{""}, want: []string{""}},
		{doc: "a small log", files: []string{"just right"}, want: []string{"just right"}},
		{doc: "the first", files: []string{"far too long"}, want: []string{"", "far too long"}},
		{doc: "one more", files: []string{"far too long", "1"}, want: []string{"", "far too long", "1"}},
		{doc: "as many as are kept", files: []string{"far too long", "1", "2", "3"}, want: []string{"", "far too long", "1", "2"}},
		{doc: "a gap", files: []string{"far too long", "", "2"}, want: []string{"", "far too long", "", "2"}},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "client.log")
			for i, content := range tt.files {
				if content == "" {
					continue
				}
				if err := os.WriteFile(logName(log, i), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			rotate(t, log, limit, tt.files[0] != "" && tt.want[0] == "")
			for i := range oldLogs + 2 {
				want := ""
				if i < len(tt.want) {
					want = tt.want[i]
				}
				got, err := os.ReadFile(logName(log, i))
				if string(got) != want || err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: %q, %v; want %q", logName(log, i), got, err, want)
				}
			}
		})
	}
}

func logName(log string, i int) string {
	if i == 0 {
		return log
	}
	return fmt.Sprintf("%s.%d", log, i)
}

func TestRotateLogFails(t *testing.T) {
	log := filepath.Join(t.TempDir(), "client.log")
	if err := os.WriteFile(log, []byte("far too long"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log+".2", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(log+".3", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RotateLog(log, 10, func() error { return nil }); err == nil {
		t.Error("no error")
	}
	if err := RotateOpenLog(log, 10); err == nil {
		t.Error("no error")
	}
	if data, err := os.ReadFile(log); err != nil || string(data) != "far too long" {
		t.Errorf("the log: %q, %v", data, err)
	}
}
