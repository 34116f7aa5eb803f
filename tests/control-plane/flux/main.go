// Evaluates health checks as Flux does: a request as JSON in each line of stdin, an answer as JSON in
// a line on stdout.
//
// A request has an object and either the three expressions of a health check or one expression that
// is a text. An answer has the status, the text or the error of the evaluation.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type request struct {
	Checks *kustomize.HealthCheckExpressions `json:"checks,omitempty"`
	Text   string                            `json:"text,omitempty"`
	Object unstructured.Unstructured         `json:"object"`
}

type answer struct {
	Status string `json:"status,omitempty"`
	Text   string `json:"text,omitempty"`
	Error  string `json:"error,omitempty"`
}

func main() {
	if err := answerAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answerAll() error {
	lines := bufio.NewScanner(os.Stdin)
	// An object can be as long as etcd takes.
	lines.Buffer(nil, 4<<20)
	out := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(out)
	// One rule is asked about many objects.
	compiled := map[string]evaluator{}
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		key, err := json.Marshal([]any{asked.Checks, asked.Text})
		if err != nil {
			return err
		}
		evaluate, ok := compiled[string(key)]
		if !ok {
			evaluate = compile(asked)
			compiled[string(key)] = evaluate
		}
		if err := answers.Encode(evaluate(&asked.Object)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}

type evaluator func(object *unstructured.Unstructured) answer

func compile(asked request) evaluator {
	refuse := func(err error) evaluator {
		return func(*unstructured.Unstructured) answer { return answer{Error: "refused: " + err.Error()} }
	}
	if asked.Checks != nil {
		status, err := cel.NewStatusEvaluator(asked.Checks)
		if err != nil {
			return refuse(err)
		}
		return func(object *unstructured.Unstructured) answer {
			result, err := status.Evaluate(context.Background(), object)
			if err != nil {
				return answer{Error: err.Error()}
			}
			return answer{Status: result.Status.String()}
		}
	}
	expression, err := cel.NewExpression(asked.Text)
	if err != nil {
		return refuse(err)
	}
	return func(object *unstructured.Unstructured) answer {
		text, err := expression.EvaluateString(context.Background(), object.Object)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Text: text}
	}
}
