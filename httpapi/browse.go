package httpapi

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

//go:embed browse.html
var browseTemplate string

// shownOperation is an operation on the page.
type shownOperation struct {
	ID, Method, Path, Summary, Description, Role, Restricted, Body, Answer string
	Parameters                                                             []shownParameter
	Answers                                                                []shownAnswer
}

type shownParameter struct {
	Name, In, Description string
	Required              bool
}

type shownAnswer struct{ Status, Description string }

type shownTag struct {
	Name, Description string
	Operations        []shownOperation
}

// documentPage is the document as a page, without scripts.
func (s *Server) documentPage() (string, error) {
	t, err := template.New("browse").Parse(browseTemplate)
	if err != nil {
		return "", fmt.Errorf("read the template of the page: %w", err)
	}
	tags := make([]shownTag, 0, len(s.doc.Tags))
	for _, tag := range s.doc.Tags {
		shown := shownTag{Name: tag.Name, Description: tag.Description}
		for _, op := range s.ops {
			if slices.Contains(op.route.Operation.Tags, tag.Name) {
				shown.Operations = append(shown.Operations, show(op))
			}
		}
		slices.SortFunc(shown.Operations, func(a, b shownOperation) int {
			return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
		})
		tags = append(tags, shown)
	}
	var page strings.Builder
	if err := t.Execute(&page, map[string]any{"Info": s.doc.Info, "Tags": tags}); err != nil {
		return "", fmt.Errorf("make the page: %w", err)
	}
	return page.String(), nil
}

func show(op *operation) shownOperation {
	o := op.route.Operation
	shown := shownOperation{
		ID: op.id, Method: op.route.Method, Path: op.route.Path, Summary: o.Summary, Description: o.Description, Role: cmp.Or(string(op.role), "none"),
		Restricted: string(op.restricted),
	}
	for _, p := range o.Parameters {
		shown.Parameters = append(shown.Parameters, shownParameter{p.Value.Name, p.Value.In, p.Value.Description, p.Value.Required})
	}
	if o.RequestBody != nil {
		shown.Body = example(o.RequestBody.Value.Content)
	}
	for status, answer := range o.Responses.Map() {
		description := ""
		if answer.Value.Description != nil {
			description = *answer.Value.Description
		}
		shown.Answers = append(shown.Answers, shownAnswer{status, description})
		if strings.HasPrefix(status, "2") {
			shown.Answer = example(answer.Value.Content)
		}
	}
	slices.SortFunc(shown.Answers, func(a, b shownAnswer) int { return cmp.Compare(a.Status, b.Status) })
	return shown
}

// example gives the example of some contents as text.
func example(content openapi3.Content) string {
	for _, media := range content {
		if text, ok := media.Example.(string); ok {
			return text
		}
		if media.Example == nil {
			continue
		}
		text, err := json.MarshalIndent(media.Example, "", "  ")
		if err == nil {
			return string(text)
		}
	}
	return ""
}
