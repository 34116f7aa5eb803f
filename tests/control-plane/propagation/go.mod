// Carries trace context as OpenTelemetry's propagators do, for the test that compares ours with them.
module spanlink.dev/tests/control-plane/propagation

go 1.26.0

require (
	go.opentelemetry.io/otel v1.45.0
	go.opentelemetry.io/otel/trace v1.45.0
)

require github.com/cespare/xxhash/v2 v2.3.0 // indirect
