package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// WriteTable writes results as a table for people.
func WriteTable(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "target\tscenario\tqos\tconns\tmsg/s\tCPU/msg\tp50\tp99\tp99.9\tB/conn\tresident\t")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f MB\t\n", r.Target, r.Scenario, r.QoS, r.Connections,
			some(r.PerSecond > 0, "%.0f", r.PerSecond), some(r.CPU > 0, "%.2f µs", float64(r.CPU)/float64(time.Microsecond)),
			delay(r.P50), delay(r.P99), delay(r.P999), some(r.PerConn > 0, "%d", r.PerConn), float64(r.Resident)/1e6)
	}
	return t.Flush()
}

func some[V any](ok bool, format string, v V) string {
	if !ok {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

func delay(d time.Duration) string {
	return some(d > 0, "%.2f ms", float64(d)/float64(time.Millisecond))
}
