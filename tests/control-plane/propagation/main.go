// Carries trace context in annotations by OpenTelemetry's propagators, as the helpers of KEP-5915 in
// Go do: one request as JSON in each line of stdin, one answer in each line of stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const prefix = "tracing.k8s.io/"

// A propagator's keys, with the prefix of the KEP.
type annotationCarrier map[string]string

func (c annotationCarrier) Get(key string) string { return c[prefix+key] }

func (c annotationCarrier) Set(key, value string) { c[prefix+key] = value }

func (c annotationCarrier) Keys() []string {
	var keys []string
	for key := range c {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, strings.TrimPrefix(key, prefix))
		}
	}
	return keys
}

// The annotations are extracted, and what was extracted is injected into none.
type answer struct {
	Valid      bool              `json:"valid"`
	TraceID    string            `json:"traceId"`
	SpanID     string            `json:"spanId"`
	Flags      byte              `json:"flags"`
	TraceState string            `json:"traceState"`
	Injected   map[string]string `json:"injected"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	out := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(out)
	propagator := propagation.TraceContext{}
	for lines.Scan() {
		annotations := annotationCarrier{}
		if err := json.Unmarshal(lines.Bytes(), &annotations); err != nil {
			return fmt.Errorf("read annotations: %w", err)
		}
		extracted := propagator.Extract(context.Background(), annotations)
		span := trace.SpanContextFromContext(extracted)
		injected := annotationCarrier{}
		propagator.Inject(extracted, injected)
		err := answers.Encode(answer{
			Valid:      span.IsValid(),
			TraceID:    span.TraceID().String(),
			SpanID:     span.SpanID().String(),
			Flags:      byte(span.TraceFlags()),
			TraceState: span.TraceState().String(),
			Injected:   injected,
		})
		if err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}
