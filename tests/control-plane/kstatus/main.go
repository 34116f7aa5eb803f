// Judges objects by kstatus: one as JSON in each line of stdin, one line for each on stdout, with
// the status, a tab and the message. What kstatus cannot judge is Unknown.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	if err := judge(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge() error {
	lines := bufio.NewScanner(os.Stdin)
	// An object can be as long as etcd takes.
	lines.Buffer(nil, 4<<20)
	out := bufio.NewWriter(os.Stdout)
	oneLine := strings.NewReplacer("\n", " ", "\r", " ", "\t", " ")
	for lines.Scan() {
		var object unstructured.Unstructured
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		said, message := status.UnknownStatus, ""
		if result, err := status.Compute(&object); err != nil {
			message = err.Error()
		} else {
			said, message = result.Status, result.Message
		}
		if _, err := fmt.Fprintf(out, "%s\t%s\n", said, oneLine.Replace(message)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}
