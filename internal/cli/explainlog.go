package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

// longestLine is how long a line of a log may be to be read: one of a request has a path and a few headers,
// one of a collector a batch of them.
const longestLine = 16 << 20

// explainLog joins the lines of a log, of a file or "-" for standard input, with the intent: each, or who came in plaintext.
func (a *app) explainLog(ctx context.Context, f *intentFlags, dir, file string, plaintext bool) error {
	p, err := f.load(ctx, a, dir)
	if err != nil {
		return err
	}
	r, ds := p.Release()
	if ds.HasErrors() {
		return a.problems(ds)
	}
	in := a.in
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return fail(diag.ExitFailure, "--log: %v", err)
		}
		defer opened.Close()
		in = opened
	}
	if plaintext {
		return a.explainPlaintext(p, r.Digest(), in)
	}
	all := compiler.LoggedLines{Release: r.Digest(), Lines: []compiler.Logged{}}
	all.Other, err = eachLogged(p, in, func(l compiler.Logged) error {
		if a.form().structured() {
			all.Lines = append(all.Lines, l)
			return nil
		}
		return a.explainLine(l)
	})
	switch {
	case err != nil:
		return err
	case a.form().structured():
		return a.document(all)
	}
	return a.explainedLog(all.Release, all.Other)
}

// eachLogged gives each request of a log, and says how many lines have none.
func eachLogged(p *compiler.Program, in io.Reader, do func(compiler.Logged) error) (other int, err error) {
	err = eachLine(in, func(number int, line []byte) error {
		lines := p.Logged(number, line)
		if len(lines) == 0 {
			other++
		}
		for _, l := range lines {
			if err := do(l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("reading the log: %w", err)
	}
	return other, nil
}

// explainedLog says which release the lines were joined with, and how many were none.
func (a *app) explainedLog(release string, other int) error {
	note := ""
	if other > 0 {
		note = ", " + count(other, "line") + " of no proxy of a mesh passed over"
	}
	return printer.Fprintf(a.err, "release %s%s\n", release, note)
}

// explainPlaintext says for whom strict mTLS would close the door.
func (a *app) explainPlaintext(p *compiler.Program, release string, in io.Reader) error {
	all := compiler.PlaintextCallers{Release: release}
	var err error
	if all.Other, err = eachLogged(p, in, func(l compiler.Logged) error { all.Add(l); return nil }); err != nil {
		return err
	}
	if all.Done(); a.form().structured() {
		return a.document(all)
	}
	for _, c := range all.Callers {
		if err := a.plaintextCaller(c); err != nil {
			return err
		}
	}
	of, when := "of", ""
	if len(all.Callers) == 0 {
		of = "nobody came without a certificate, in"
	}
	if all.First != "" {
		when = " from " + all.First + " to " + all.Last
	}
	if err := printer.Fprintf(a.out, "%s %s at services%s\n", of, count(all.Requests, "request"), when); err != nil {
		return err
	}
	return a.explainedLog(all.Release, all.Other)
}

func (a *app) plaintextCaller(c compiler.PlaintextCaller) error {
	client, owner, verdict, last := c.Client, "", "", ""
	if client == "" {
		client = "an address that is not told"
	}
	if c.Owner != "" {
		owner = ", of " + c.Owner
	}
	if c.Verdict != "" {
		verdict = ", " + c.Verdict
	}
	if c.Last != "" {
		last = ", last " + c.Last
	}
	if err := printer.Fprintf(a.out, "%s%s from %s: %s%s%s\n", c.To, owner, client, count(c.Requests, "request"), verdict, last); err != nil {
		return err
	}
	if c.Rule == nil {
		return nil
	}
	return printer.Fprintf(a.out, "  %s\n     %s\n", c.Rule.Path, a.at(c.Rule.Pos))
}

// eachLine gives each line that is not empty, without its end; one that is longer than lines may be as nil,
// for what stands behind it is read all the same.
func eachLine(in io.Reader, do func(number int, line []byte) error) error {
	r := bufio.NewReaderSize(in, 64<<10)
	var line []byte
	for number := 1; ; number++ {
		line = line[:0]
		whole := true
		part, err := r.ReadSlice('\n')
		for ; errors.Is(err, bufio.ErrBufferFull); part, err = r.ReadSlice('\n') {
			if whole = whole && len(line)+len(part) <= longestLine; whole {
				line = append(line, part...)
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		line = append(line, part...)
		text := bytes.TrimRight(line, "\r\n")
		switch {
		case !whole || len(text) > longestLine:
			text = nil
		case len(text) == 0:
			if err != nil {
				return nil
			}
			continue
		}
		if told := do(number, text); told != nil || err != nil {
			return told
		}
	}
}

func (a *app) explainLine(l compiler.Logged) error {
	from := l.Caller
	if from == "" {
		from = "a caller without identity"
	}
	verdict := ""
	if l.Verdict != "" {
		verdict = ", " + l.Verdict
	}
	owner := ""
	if l.Owner != "" {
		owner = ", of " + l.Owner
	}
	if err := printer.Fprintf(a.out, "%d. %s %s%s from %s\n→ %d by %s%s%s\n", l.Line, l.Method, l.Host, l.Path, from, l.Status, l.By, owner, verdict); err != nil {
		return err
	}
	for _, m := range l.Lines {
		if err := printer.Fprintf(a.out, "  %s\n     %s\n", m.Path, a.at(m.Pos)); err != nil {
			return err
		}
	}
	for _, u := range l.Unknown {
		if err := printer.Fprintf(a.out, "  %s is not in this intent: the proxy had another release\n", u); err != nil {
			return err
		}
	}
	return nil
}
