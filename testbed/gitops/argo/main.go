// The parts of Argo CD that install and remove an Application, as processes of one machine.
//
// argo-cd/v3/cmd, the program of Argo CD's images, would be built with its API server, its ApplicationSets and the
// clients of a dozen git hosts as well. The commands here are the same ones, with the same flags.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alicebob/miniredis/v2"
	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	reposerver "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
	"github.com/argoproj/argo-cd/v3/util/askpass"
	"github.com/spf13/cobra"
)

func main() {
	if len(os.Args) < 2 {
		fail("expected a command: controller, repo-server or redis ADDRESS")
	}
	name, rest := os.Args[1], os.Args[2:]
	switch name {
	case "controller":
		run(controller.NewCommand(), rest)
	case "repo-server":
		// Its default is one path for the whole machine, and so for every test that runs at the same time.
		askpass.SocketPath = filepath.Join(os.TempDir(), "ask-pass.sock")
		run(reposerver.NewCommand(), rest)
	case "redis":
		redis(rest)
	default:
		fail("expected controller, repo-server or redis, there is " + name)
	}
}

func run(command *cobra.Command, arguments []string) {
	command.SetArgs(arguments)
	if err := command.Execute(); err != nil {
		os.Exit(1)
	}
}

// redis serves the Redis that `argocd --core` has, too, until it is told to end.
func redis(arguments []string) {
	if len(arguments) != 1 {
		fail("expected one argument: the address to listen on")
	}
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr(arguments[0]); err != nil {
		fail(err.Error())
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(2)
}
