package render

import (
	"encoding/json"
	"io"
	"net/url"
	"path/filepath"
	"slices"

	"k8s.io/component-base/version"

	"edgecache.dev/registrycheck/extract"
)

// The parts of SARIF 2.1.0 that are needed to show results beside files.
// https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string    `json:"id"`
		ShortDescription sarifText `json:"shortDescription"`
		HelpURI          string    `json:"helpUri"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifResult struct {
		RuleID              string            `json:"ruleId"`
		RuleIndex           int               `json:"ruleIndex"`
		Level               string            `json:"level"`
		Message             sarifText         `json:"message"`
		Locations           []sarifLocation   `json:"locations,omitempty"`
		PartialFingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
)

const (
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	homepage    = "https://edgecache.dev"
	reasons     = homepage + "/docs/registrycheck.md#reasons"
	// driftRule is the rule of what differs from a lock.
	driftRule = "Drift"
)

func writeSARIF(w io.Writer, r *Report) error {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: "registrycheck", Version: version.Get().GitVersion, InformationURI: homepage, Rules: []sarifRule{}}},
		Invocations: []sarifInvocation{{Successful: len(r.Errors) == 0}},
		Results:     []sarifResult{},
	}
	for _, i := range r.Images {
		for _, t := range i.troubles() {
			run.add(string(t.Reason), levelOf(t.Verdict), clean(i.Reference)+": "+t.text(), clean(i.Reference)+" "+t.platform, i.Sources)
		}
	}
	for _, d := range r.Drift {
		run.add(driftRule, levelError, clean(d.String()), clean(d.Reference)+" "+d.Platform, nil)
	}
	for _, e := range r.Errors {
		run.notify(levelError, e.Message, extract.Source{File: e.File, Line: e.Line})
	}
	for _, n := range r.Notes {
		run.notify("note", n, extract.Source{})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

// add adds a result for each place, as viewers show one place of each.
func (run *sarifRun) add(rule, level, message, fingerprint string, sources []extract.Source) {
	index := run.rule(rule)
	for _, s := range anywhere(sources) {
		run.Results = append(run.Results, sarifResult{
			RuleID: rule, RuleIndex: index, Level: level, Message: sarifText{message}, Locations: locations(s),
			PartialFingerprints: map[string]string{"image/v1": fingerprint + " " + s.Object() + " " + s.Field},
		})
	}
}

// rule gives the index of a rule, which is made when it is met first.
func (run *sarifRun) rule(id string) int {
	rules := &run.Tool.Driver.Rules
	if i := slices.IndexFunc(*rules, func(r sarifRule) bool { return r.ID == id }); i >= 0 {
		return i
	}
	*rules = append(*rules, sarifRule{ID: id, ShortDescription: sarifText{"Nodes cannot pull an image: " + id}, HelpURI: reasons})
	return len(*rules) - 1
}

func (run *sarifRun) notify(level, message string, at extract.Source) {
	all := &run.Invocations[0].Notifications
	*all = append(*all, sarifNotification{Level: level, Message: sarifText{clean(message)}, Locations: locations(at)})
}

func locations(s extract.Source) []sarifLocation {
	var l sarifLocation
	if s.File != "" && s.File != extract.Stdin {
		u := url.URL{Path: filepath.ToSlash(s.File)}
		if filepath.IsAbs(s.File) {
			u.Scheme = "file"
		}
		l.Physical = &sarifPhysical{Artifact: sarifArtifact{u.String()}}
		if s.Line > 0 {
			l.Physical.Region = &sarifRegion{s.Line}
		}
	}
	if object := s.Object(); object != "" {
		l.Logical = []sarifLogical{{Name: clean(object + " " + s.Field), Kind: "resource"}}
	}
	if l.Physical == nil && l.Logical == nil {
		return nil
	}
	return []sarifLocation{l}
}
