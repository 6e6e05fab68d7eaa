package render

import (
	"encoding/xml"
	"io"
	"strings"

	"edgecache.dev/registrycheck"
)

// The form that Jenkins, GitLab and others read: one test case for each image. What is
// inconclusive is an error, what is not pullable a failure.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		File      string        `xml:"file,attr,omitempty"`
		Line      int           `xml:"line,attr,omitempty"`
		Failure   *junitOutcome `xml:"failure"`
		Error     *junitOutcome `xml:"error"`
		Output    string        `xml:"system-out,omitempty"`
	}
	junitOutcome struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

func writeJUnit(w io.Writer, r *Report) error {
	images := junitSuite{Name: "images"}
	for _, i := range r.Images {
		images.add(caseOf(&i))
	}
	suites := junitSuites{Name: "registrycheck", Suites: []junitSuite{images}}
	if len(r.Drift) > 0 {
		drift := junitSuite{Name: "lock"}
		for _, d := range r.Drift {
			drift.add(junitCase{Name: clean(strings.TrimSpace(d.Reference + " " + d.Platform)), ClassName: "lock", Failure: &junitOutcome{clean(d.Message), "Drift", clean(d.String())}})
		}
		suites.Suites = append(suites.Suites, drift)
	}
	if len(r.Errors) > 0 {
		inputs := junitSuite{Name: "inputs"}
		for _, e := range r.Errors {
			inputs.add(junitCase{Name: clean(e.File), ClassName: "inputs", File: clean(e.File), Line: e.Line, Error: &junitOutcome{clean(e.Message), "Input", clean(e.String())}})
		}
		suites.Suites = append(suites.Suites, inputs)
	}
	for _, s := range suites.Suites {
		suites.Tests, suites.Failures, suites.Errors = suites.Tests+s.Tests, suites.Failures+s.Failures, suites.Errors+s.Errors
	}
	return writeXML(w, suites)
}

func writeXML(w io.Writer, v any) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	if c.Failure != nil {
		s.Failures++
	}
	if c.Error != nil {
		s.Errors++
	}
	s.Cases = append(s.Cases, c)
}

func caseOf(i *Image) junitCase {
	c := junitCase{Name: clean(i.Reference), ClassName: "images", Output: strings.Join(i.places(), "\n")}
	if len(i.Sources) > 0 {
		s := i.Sources[0]
		c.File, c.Line = clean(s.File), s.Line
		if object := s.Object(); object != "" {
			c.ClassName = clean(object)
		}
	}
	var texts []string
	for _, t := range i.troubles() {
		texts = append(texts, t.text())
	}
	outcome := &junitOutcome{clean(i.Explain()), string(i.Reason), strings.Join(texts, "\n")}
	switch i.Verdict {
	case registrycheck.NotPullable:
		c.Failure = outcome
	case registrycheck.Inconclusive:
		c.Error = outcome
	case registrycheck.Pullable:
	}
	return c
}
