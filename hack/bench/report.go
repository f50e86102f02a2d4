package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func cores() int { return runtime.NumCPU() }

// figure is one line of the table.
type figure struct {
	Name string `json:"figure"`
	// Wanted says what Value has to be: at most Limit of Unit, or between two.
	Wanted string  `json:"wanted"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Met    bool    `json:"met"`
	// Measured says how Value came about.
	Measured string `json:"measured"`
}

// point is what one number of volumes costs, in milliseconds.
type point struct {
	Volumes int     `json:"volumes"`
	Create  float64 `json:"create"`
	Mount   float64 `json:"mount"`
	List    float64 `json:"list"`
	Get     float64 `json:"get"`
	Mkdir   float64 `json:"mkdir"`
	// Idle is in operations a second that a node with nothing to do has the bricks do.
	Idle float64 `json:"idle"`
}

// report is the result of a run.
type report struct {
	Begun   time.Time `json:"begun"`
	Machine string    `json:"machine"`
	Figures []figure  `json:"figures"`
	Points  []point   `json:"points"`
	Samples []sample  `json:"samples"`
	Wire    []wire    `json:"wire"`
	// Capacity is how many operations a second the busiest brick has carried out when all nodes
	// looked names up as fast as they could.
	Capacity float64 `json:"capacity,omitempty"`
}

// wire is what one thing has a brick do, in operations, with what all nodes ask for meanwhile
// of themselves.
type wire struct {
	What       string     `json:"what"`
	Operations float64    `json:"operations"`
	Kinds      operations `json:"kinds"`
}

// sample describes what one way to do one thing took, in milliseconds.
type sample struct {
	What   string  `json:"what"`
	N      int     `json:"n"`
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
}

// atMost adds a figure that has a limit.
func (r *report) atMost(name string, value, limit float64, unit, measured string) {
	r.Figures = append(r.Figures, figure{name, fmt.Sprintf("≤ %g %s", limit, unit), value, unit, value <= limit, measured})
}

// between adds a figure that has two.
func (r *report) between(name string, value, low, high float64, unit, measured string) {
	wanted := fmt.Sprintf("%g to %g %s", low, high, unit)
	r.Figures = append(r.Figures, figure{name, wanted, value, unit, low <= value && value <= high, measured})
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s, %s\n\n", r.Begun.Format(time.DateOnly), r.Machine)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tN\tMEDIAN\tP99")
	for _, s := range r.Samples {
		fmt.Fprintf(t, "%s\t%d\t%.2f ms\t%.2f ms\n", s.What, s.N, s.Median, s.P99)
	}
	fmt.Fprintln(t, "\t\t\t")
	fmt.Fprintln(t, "FIGURE\tWANTED\tMEASURED\tVERDICT\tFROM")
	for _, f := range r.Figures {
		verdict := "missed"
		if f.Met {
			verdict = "met"
		}
		fmt.Fprintf(t, "%s\t%s\t%.3g %s\t%s\t%s\n", f.Name, f.Wanted, f.Value, f.Unit, verdict, f.Measured)
	}
	fmt.Fprintln(t, "\t\t\t\t")
	_ = t.Flush()
	if len(r.Wire) > 0 {
		fmt.Fprintln(t, "WHAT\tON A BRICK\tOF WHICH")
	}
	for _, w := range r.Wire {
		fmt.Fprintf(t, "%s\t%.1f operations\t%s\n", w.What, w.Operations, w.Kinds)
	}
	_ = t.Flush()
	if r.Capacity > 0 {
		fmt.Fprintf(w, "\nAsked for look-ups by three nodes as fast as they can, each brick does %.0f a second.\n", r.Capacity)
	}
}

// write writes the report for programs, and a plot of what more volumes cost.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	if len(r.Points) < 2 {
		return nil
	}
	return r.plot(dir)
}

func (r *report) plot(dir string) error {
	var data strings.Builder
	for _, p := range r.Points {
		fmt.Fprintf(&data, "%d %g %g %g %g %g %g\n", p.Volumes, p.Mkdir, p.Create, p.Mount, p.List, p.Get, p.Idle)
	}
	file := filepath.Join(dir, "volumes.dat")
	if err := os.WriteFile(file, []byte(data.String()), 0o644); err != nil {
		return err
	}
	script := fmt.Sprintf(`set terminal svg size 900,560 background rgb "white"
set output %q
set logscale xy
set xlabel "volumes in the store"
set ylabel "ms (median); operations a second"
set key outside
plot for [i=2:7] %q using 1:i with linespoints title word("mkdir-by-hand Create Mount List Get idle-operations", i-1)
`, filepath.Join(dir, "volumes.svg"), file)
	cmd := exec.Command("gnuplot")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("gnuplot: %w: %s", err, out)
	}
	return nil
}

// times are of one way to do one thing.
type times []time.Duration

func (t times) quantile(q float64) float64 {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return milliseconds(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))])
}

func (t times) median() float64 { return t.quantile(0.5) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// take runs do and adds what it took to t.
func take(t *times, do func() error) error {
	start := time.Now()
	err := do()
	*t = append(*t, time.Since(start))
	return err
}

// sampled adds what something took to the report.
func (r *report) sampled(what string, t times) {
	r.Samples = append(r.Samples, sample{what, len(t), t.median(), t.quantile(0.99)})
}

// middle is the median of figures.
func middle(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }
