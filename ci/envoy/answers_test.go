package envoy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/ci/hostile"
	"meshc.dev/meshc/internal/rehearsal"
)

// odd is an answer that no application should give.
type odd struct {
	raw  string // packed
	want string // statuses that the asker may get, and "cut" for a body that ends in an error
}

// failed are the statuses of proxies in place of an answer that they do not take.
const failed = "502 503"

// oddAnswers are what an application of HTTP/1 says in place of an answer.
func oddAnswers() map[string]odd {
	// The application closes each connection, and says so: a proxy that keeps one which is
	// closed without a word may lose the next request on it, odd answer or not.
	const closes = "connection: close\r\n"
	head := func(lines string) string { return "HTTP/1.1 200 OK\r\n" + closes + lines }
	whole := func(lines string) string { return rehearsal.Raw(head(lines + "content-length: 2\r\n\r\nok")) }
	chunked := func(trailers string) string {
		return rehearsal.Raw(head("transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + trailers + "\r\n"))
	}
	many := strings.Repeat("x-a: b\r\n", 400)
	return map[string]odd{
		"upgrade":                     {whole("upgrade: websocket\r\nconnection: upgrade\r\n"), "200"},
		"upgrade to HTTP2":            {whole("upgrade: h2c\r\n"), "200"},
		"connection names a header":   {whole("connection: x-a\r\nx-a: b\r\n"), "200"},
		"connection names the length": {whole("connection: content-length\r\n"), "200 " + failed},
		"te":                          {whole("te: gzip\r\n"), failed},
		"empty te":                    {whole("te:\r\n"), failed},
		"hop by hop":                  {whole("keep-alive: timeout=1\r\nproxy-connection: close\r\n"), "200"},
		"trailer announced":           {whole("trailer: x-a\r\n"), "200"},
		"switching unasked":           {rehearsal.Raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nbytes"), failed},
		"no content with content":     {rehearsal.Raw("HTTP/1.1 204 No Content\r\n" + closes + "content-length: 2\r\n\r\nok"), "204 " + failed},
		"no content in chunks":        {rehearsal.Raw("HTTP/1.1 204 No Content\r\n" + closes + "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "204 " + failed},
		"not modified with content":   {rehearsal.Raw("HTTP/1.1 304 Not Modified\r\n" + closes + "content-length: 2\r\n\r\nok"), "304 " + failed},
		"reset content with content":  {rehearsal.Raw("HTTP/1.1 205 Reset Content\r\n" + closes + "content-length: 2\r\n\r\nok"), "205 " + failed},
		"two answers":                 {rehearsal.Raw(strings.Repeat(head("content-length: 2\r\n\r\nok"), 2)), "200"},
		"continue":                    {rehearsal.Raw("HTTP/1.1 100 Continue\r\n\r\n" + head("content-length: 2\r\n\r\nok")), "200"},
		"many continues":              {rehearsal.Raw(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20000) + head("content-length: 2\r\n\r\nok")), "200 " + failed},
		"many early hints":            {rehearsal.Raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n", 20000) + head("content-length: 2\r\n\r\nok")), "200 " + failed},
		"many of 102":                 {rehearsal.Raw(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20000) + head("content-length: 2\r\n\r\nok")), "200 " + failed},
		"continue, then the end":      {rehearsal.Raw("HTTP/1.1 100 Continue\r\n\r\n"), failed},
		"the end":                     {rehearsal.Raw(""), failed},
		"the end in the head":         {rehearsal.Raw("HTTP/1.1 200 OK\r\nx-a: "), failed},
		"the end in the body":         {rehearsal.Raw(head("content-length: 4\r\n\r\nok")), "200cut " + failed},
		"the end in a chunk":          {rehearsal.Raw(head("transfer-encoding: chunked\r\n\r\n4\r\nok")), "200cut " + failed},
		"the end in the trailers":     {rehearsal.Raw(head("transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-a: ")), "200cut " + failed},
		"chunk of no size":            {rehearsal.Raw(head("transfer-encoding: chunked\r\n\r\nx\r\nok")), "200cut " + failed},
		"huge chunk":                  {rehearsal.Raw(head("transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nok")), "200cut " + failed},
		"body until the end":          {rehearsal.Raw(head("\r\nok")), "200"},
		"more than the length":        {rehearsal.Raw(head("content-length: 1\r\n\r\nok")), "200"},
		"two lengths":                 {rehearsal.Raw(head("content-length: 2\r\ncontent-length: 3\r\n\r\nok")), failed},
		"negative length":             {rehearsal.Raw(head("content-length: -2\r\n\r\nok")), failed},
		"length of no number":         {rehearsal.Raw(head("content-length: 2x\r\n\r\nok")), failed},
		"length and chunks":           {rehearsal.Raw(head("content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")), "200 " + failed},
		"unknown coding":              {rehearsal.Raw(head("transfer-encoding: gzip\r\n\r\nok")), failed},
		"trailers":                    {chunked("x-a: b\r\n"), "200"},
		"status as a trailer":         {chunked(":status: 500\r\n"), "200 200cut " + failed},
		"many trailers":               {chunked(many), "200 200cut " + failed},
		"long trailer":                {chunked("x-a: " + strings.Repeat("b", 300<<10) + "\r\n"), "200 200cut " + failed},
		"bad trailer":                 {chunked("x-a: \x00\r\n"), "200 200cut " + failed},
		"many headers":                {whole(many), failed},
		"very many headers":           {whole(strings.Repeat(many, 50)), failed},
		"long header":                 {whole("x-a: " + strings.Repeat("b", 300<<10) + "\r\n"), failed},
		"long cookie lines":           {whole(strings.Repeat("set-cookie: a="+strings.Repeat("b", 4<<10)+"\r\n", 40)), failed},
		"zero in a value":             {whole("x-a: b\x00\r\n"), failed},
		"control in a value":          {whole("x-a: b\x01\r\n"), failed},
		"delete in a value":           {whole("x-a: b\x7f\r\n"), "200 " + failed},
		"high bytes in a value":       {whole("x-a: \xff\xfe\r\n"), "200"},
		"bare return in a value":      {whole("x-a: b\rc\r\n"), "200"},
		"folded value":                {whole("x-a: b\r\n c\r\n"), "200"},
		"blank in a name":             {whole("x a: b\r\n"), failed},
		"blank behind a name":         {whole("x-a : b\r\n"), failed},
		"no name":                     {whole(": b\r\n"), failed},
		"zero in a name":              {whole("x\x00a: b\r\n"), failed},
		"high bytes in a name":        {whole("x\xffa: b\r\n"), failed},
		"pseudo header":               {whole(":status: 500\r\n"), failed},
		"no colon":                    {whole("x-a\r\n"), failed},
		"host":                        {whole("host: app.shop\r\n"), "200"},
		"no status":                   {rehearsal.Raw("HTTP/1.1\r\n\r\n"), failed},
		"status of no number":         {rehearsal.Raw("HTTP/1.1 2x0 OK\r\ncontent-length: 2\r\n\r\nok"), failed},
		"status of four digits":       {rehearsal.Raw("HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok"), failed},
		"status zero":                 {rehearsal.Raw("HTTP/1.1 000 OK\r\ncontent-length: 2\r\n\r\nok"), failed},
		"status too low":              {rehearsal.Raw("HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok"), failed},
		"status out of any class":     {rehearsal.Raw("HTTP/1.1 999 OK\r\n" + closes + "content-length: 2\r\n\r\nok"), "999 " + failed},
		"old HTTP":                    {rehearsal.Raw("HTTP/1.0 200 OK\r\n\r\nok"), "200"},
		"other HTTP":                  {rehearsal.Raw("HTTP/3.7 200 OK\r\n" + closes + "content-length: 2\r\n\r\nok"), "200 " + failed},
		"no HTTP":                     {rehearsal.Raw("220 mail.test ESMTP\r\n"), failed},
		"HTTP2":                       {rehearsal.Raw("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), failed},
	}
}

// answered says what came of a request: its status, and "cut" if the body did not end well.
func answered(ctx context.Context, addr, packed string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = "app.shop"
	req.Header.Set(rehearsal.AnswerHeader, packed)
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	out := fmt.Sprint(res.StatusCode)
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("status %s, and a body without an end", out)
		}
		out += "cut"
	}
	return out, nil
}

// judge gets the answer through every door.
func judge(t *testing.T, d doors, o odd) {
	t.Helper()
	for door, addr := range d.addresses {
		got, err := answered(t.Context(), addr, o.raw)
		if err != nil || !strings.Contains(" "+o.want+" ", " "+got+" ") {
			t.Errorf("through the %s: %s (%v), want %s", door, got, err, o.want)
		}
	}
}

// An application that answers what it should not spoils its own answers;
// requests that share the proxies' connections get theirs.
func TestOddAnswersSpoilNobodyElses(t *testing.T) {
	d := openDoors(t, `route: default: {to: default: 100, timeout: "2s"}`)
	var doors []hostile.Door
	for name, addr := range d.addresses {
		doors = append(doors, hostile.Door{Name: name, Addr: addr, Target: hostile.Target{Host: "app.shop", Path: "/"}})
	}
	for name, o := range oddAnswers() {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			judge(t, d, o)
			hurt, err := hostile.Hunt{Doors: doors}.Try(t.Context(), func(h hostile.Door) hostile.Attack {
				a := attackWith(rehearsal.AnswerHeader + ": " + o.raw + "\r\n")(h)
				a.Times = 3
				return a
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range hurt {
				t.Errorf("a neighbour was hurt through the %s: %s", f.Door.Name, f.Harm)
			}
		})
	}
}
