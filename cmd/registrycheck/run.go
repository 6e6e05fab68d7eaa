package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"edgecache.dev/registrycheck"
	"edgecache.dev/registrycheck/extract"
	"edgecache.dev/registrycheck/lock"
	"edgecache.dev/registrycheck/render"
)

// run is one run of the program.
type run struct {
	options  *options
	in       io.Reader
	out, err io.Writer
	env      func(string) string

	inputs   extract.Inputs
	subjects subjects
	notes    []string
}

// do checks and reports. The error is one of usage: nothing was checked then.
func (r *run) do(ctx context.Context) (code int, err error) {
	if err := r.options.validate(); err != nil {
		return exitUsage, err
	}
	locks, err := r.readLocks()
	if err != nil {
		return exitUsage, err
	}
	if err := r.gather(ctx, locks); err != nil {
		return exitUsage, err
	}
	checker, err := r.checker()
	if err != nil {
		return exitUsage, err
	}
	defer checker.Close()
	report := r.check(ctx, checker)
	if locks.verify != nil {
		report.Drift = locks.verify.Verify(results(report.Images))
	}
	if locks.since != nil {
		report.Downloads = r.downloads(locks.since, report.Images)
	}
	r.keep(report)
	form, _ := render.ParseForm(r.options.output) // was validated
	if err := render.Write(r.out, form, report); err != nil {
		return exitUsage, err
	}
	r.tell(form, report)
	return exitCode(report), nil
}

// exitCode gives the code that counts most.
func exitCode(r *render.Report) int {
	switch {
	case len(r.Errors) > 0:
		return exitUsage
	case r.Summary.NotPullable > 0 || len(r.Drift) > 0:
		return exitNotPullable
	case r.Summary.Inconclusive > 0:
		return exitInconclusive
	}
	return exitPullable
}

// locks are the lock files of the command line, nil where none was given.
type locks struct{ verify, since *lock.File }

func (r *run) readLocks() (l locks, err error) {
	read := func(flag, path string) *lock.File {
		if path == "" || err != nil {
			return nil
		}
		f, e := lock.ReadFile(path)
		if e != nil {
			err = fmt.Errorf("%s: %w", flag, e)
		}
		return &f
	}
	return locks{read("--verify-lock", r.options.verifyLock), read("--changed-since", r.options.changedSince)}, err
}

// gather reads all inputs and makes subjects of them.
func (r *run) gather(ctx context.Context, l locks) error {
	in := &r.inputs
	for i, reference := range r.options.references {
		in.Findings = append(in.Findings, extract.Finding{
			Image: reference, Use: extract.Reference, Source: extract.Source{Field: fmt.Sprintf("argument %d", i+1)},
		})
	}
	for _, path := range r.options.files {
		in.Read(path, r.in)
	}
	locked := r.locked(l)
	all := slices.Clone(in.Findings)
	for _, one := range locked {
		all = append(all, one.finding)
	}
	everyone, err := r.everyone(ctx, registriesOf(all))
	if err != nil {
		return err
	}
	keys := credentials{inputs: in, everyone: everyone}
	if err := keys.broken(); err != nil {
		in.Errors = append(in.Errors, err)
	}
	r.ask(&keys)
	for _, one := range locked {
		r.subjects.add(one.finding, "", everyone).want(one.image.For()...)
	}
	r.complain(&keys)
	return nil
}

// ask makes subjects of the findings.
func (r *run) ask(keys *credentials) {
	wanted, _ := r.options.wanted() // was validated
	for _, f := range r.inputs.Findings {
		own, who := keys.of(f)
		s := r.subjects.add(f, who, own)
		if len(wanted) == 0 {
			s.every = true
			continue
		}
		s.want(wanted...)
	}
}

// complain notes what was passed over.
func (r *run) complain(keys *credentials) {
	for _, n := range r.inputs.Notes {
		r.notes = append(r.notes, n.String())
	}
	for _, name := range keys.missing {
		r.notes = append(r.notes, "pull Secret "+name+" is named by pods and not among the inputs: --pull-secret FILE gives it")
	}
}

// fromLock is an image that a lock names.
type fromLock struct {
	finding extract.Finding
	image   lock.Image
}

// locked gives the images of the locks that are inputs: pinned to their digests, and, where
// there is nothing else to check, those of --verify-lock as they were named.
func (r *run) locked(l locks) []fromLock {
	var all []fromLock
	for _, found := range r.inputs.Locks {
		f, err := lock.Parse(found.JSON)
		if err != nil {
			r.inputs.Errors = append(r.inputs.Errors, &extract.InputError{File: found.Source.File, Line: found.Source.Line, Err: err})
			continue
		}
		for i, image := range f.Images {
			if pinned, err := image.Pinned(); err == nil { // what was parsed can be
				all = append(all, lockedAs(pinned, found.Source, i, image))
			}
		}
	}
	if l.verify != nil && len(r.options.references)+len(r.options.files) == 0 {
		for i, image := range l.verify.Images {
			all = append(all, lockedAs(image.Reference, extract.Source{File: r.options.verifyLock}, i, image))
		}
	}
	return all
}

func lockedAs(reference string, source extract.Source, i int, image lock.Image) fromLock {
	source.Field = fmt.Sprintf("images[%d]", i)
	return fromLock{extract.Finding{Image: reference, Use: extract.Reference, Source: source}, image}
}

// check asks the registries.
func (r *run) check(ctx context.Context, checker *registrycheck.Checker) *render.Report {
	requests := make([]registrycheck.Request, len(r.subjects.all))
	for i, s := range r.subjects.all {
		requests[i] = s.request(r.options)
	}
	progress := r.progress(len(requests))
	images := make([]render.Image, len(requests))
	found := checker.CheckAll(ctx, requests, func(_ int, result registrycheck.Result) {
		if progress != nil {
			progress.Done(result)
		}
	})
	if progress != nil {
		progress.End()
	}
	for i, result := range found {
		images[i] = render.Image{Result: result, Sources: r.subjects.all[i].sources}
	}
	report := &render.Report{Images: images, Notes: r.notes, Summary: registrycheck.NewReport(results(images)).Summary}
	for _, err := range r.inputs.Errors {
		report.Errors = append(report.Errors, inputError(err))
	}
	return report
}

func results(images []render.Image) []registrycheck.Result {
	all := make([]registrycheck.Result, len(images))
	for i := range images {
		all[i] = images[i].Result
	}
	return all
}

func inputError(err error) render.InputError {
	if e, ok := errors.AsType[*extract.InputError](err); ok {
		return render.InputError{File: e.File, Line: e.Line, Message: e.Err.Error()}
	}
	return render.InputError{Message: err.Error()}
}

// progress gives the line that tells how far the check is, nil without a terminal.
func (r *run) progress(images int) *render.Progress {
	f, ok := r.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 80
	}
	return render.NewProgress(f, images, width)
}

// keep writes the lock of --lock, when there is something that can be kept.
func (r *run) keep(report *render.Report) {
	if r.options.lock == "" {
		return
	}
	f, err := lock.New(results(report.Images))
	if err == nil && len(report.Errors) > 0 {
		err = errors.New("not all inputs could be read")
	}
	if err != nil {
		report.Notes = append(report.Notes, fmt.Sprintf("%s was not written: %v", r.options.lock, err))
		return
	}
	if err := f.WriteFile(r.options.lock); err != nil {
		report.Errors = append(report.Errors, render.InputError{File: r.options.lock, Message: err.Error()})
	}
}

// downloads gives what nodes of each platform fetch that have what the lock has.
func (r *run) downloads(since *lock.File, images []render.Image) []lock.Download {
	byPlatform := map[string][]registrycheck.Platform{}
	for _, i := range images {
		for _, p := range i.Platforms {
			byPlatform[p.Platform] = append(byPlatform[p.Platform], p)
		}
	}
	all := []lock.Download{}
	for name, what := range byPlatform {
		d := since.Changes(what)
		d.Group = name
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b lock.Download) int { return cmp.Compare(a.Group, b.Group) })
	return all
}

// tell writes to people what forms for programs have among their data.
func (r *run) tell(form render.Form, report *render.Report) {
	if form == render.Table {
		return
	}
	for _, e := range report.Errors {
		fmt.Fprintln(r.err, "Error:", strings.TrimSpace(e.String()))
	}
	for _, n := range report.Notes {
		fmt.Fprintln(r.err, "Note:", n)
	}
}
