// Command demo tells meshc's story on Kubernetes with real parts: an API server, a node
// whose pods are network namespaces with real processes and real redirection, Flux that
// applies what Git has, meshc serve, meshc webhook, and Bookinfo in pods that got their
// sidecar from the webhook.
//
// In: the folder of the programs (-bin). Out: a narration with the commands that were
// run, their exit codes and what was measured; exit code 1 if something did not hold.
// Whatever it started is stopped when it ends, also by an interrupt.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/bookinfo"
	"meshc.dev/meshc/internal/demo/narrate"
	"meshc.dev/meshc/internal/kubetest/node"
)

// First arguments of this program where it is not the demo.
const (
	appWord = "app" // app NAME VERSION [SERVICE=ADDRESS …]: an application of Bookinfo
	getWord = "get" // get URL: a request, as an application makes it
	// visit URL HOST: a visitor who asks for that, and tells us what came back.
	visitWord = "visit"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case node.Word:
			os.Exit(node.Main())
		case appWord:
			os.Exit(app(os.Args[2:]))
		case getWord:
			os.Exit(get(os.Args[2:]))
		case visitWord:
			os.Exit(visit(os.Args[2:]))
		}
	}
	o := options{}
	flag.StringVar(&o.bin, "bin", "bin", "folder of meshc and meshc-agent")
	flag.BoolVar(&o.keep, "keep", false, "leave everything running until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, narrate.New(os.Stdout, false)); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		if errors.Is(ctx.Err(), context.Canceled) {
			os.Exit(130)
		}
		os.Exit(1)
	}
}

// appPort is where every application listens.
const appPort = "9080"

func app(args []string) int {
	if len(args) < 2 {
		return 2
	}
	a := bookinfo.App{Name: args[0], Version: args[1], Listen: ":" + appPort, Calls: map[string]string{}}
	for _, call := range args[2:] {
		service, address, _ := strings.Cut(call, "=")
		a.Calls[service] = address
	}
	h, err := a.Handler()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return serve(a.Listen, h)
}

// serve answers until SIGTERM, and then those who have asked already.
func serve(listen string, h http.Handler) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := &http.Server{Addr: listen, Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(grace) // the pod ends either way
	}()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-ended
	return 0
}

// get prints the status and the body of an answer.
func get(args []string) int {
	if len(args) != 1 {
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Fprintln(os.Stdout, "no answer:", err)
		return 0
	}
	defer res.Body.Close()
	fmt.Fprintln(os.Stdout, res.StatusCode)
	if _, err := io.Copy(os.Stdout, io.LimitReader(res.Body, 1<<20)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
