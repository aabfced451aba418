package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash" help:"The shell: bash."`
}

// Run prints a script that completes commands and flags.
func (c *completionCmd) Run(k *kong.Context) error {
	var cases strings.Builder
	eachCommand(k.Model.Node, func(path string, n *kong.Node) {
		words := []string{}
		for _, child := range n.Children {
			if !child.Hidden {
				words = append(words, child.Name)
			}
		}
		for _, a := range n.Positional {
			words = append(words, a.EnumSlice()...)
		}
		for _, f := range flagsOf(n) {
			words = append(words, "--"+f.Name)
		}
		fmt.Fprintf(&cases, "\t%q) words=%q ;;\n", path, strings.Join(words, " "))
	})
	_, err := fmt.Fprintf(os.Stdout, `# Completion of sipwake for bash; sipwake completion bash printed it.
_sipwake() {
	local word path= words= current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
	case $previous in
	--config|-c|export|import) compopt -o default; COMPREPLY=(); return ;;
	esac
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case " %s " in
		*" ${path:+$path/}$word "*) path=${path:+$path/}$word ;;
		esac
	done
	case $path in
%s	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _sipwake sipwake
`, strings.Join(commandPaths(k.Model.Node), " "), cases.String())
	return err
}

// eachCommand calls f with the program, whose path is empty, and with each command that is
// not hidden.
func eachCommand(n *kong.Node, f func(path string, n *kong.Node)) {
	var walk func(path string, n *kong.Node)
	walk = func(path string, n *kong.Node) {
		f(path, n)
		for _, child := range n.Children {
			if !child.Hidden {
				walk(strings.TrimPrefix(path+"/"+child.Name, "/"), child)
			}
		}
	}
	walk("", n)
}

func commandPaths(n *kong.Node) (paths []string) {
	eachCommand(n, func(path string, _ *kong.Node) {
		if path != "" {
			paths = append(paths, path)
		}
	})
	return paths
}

// flagsOf returns the flags of a command and of its parent commands.
func flagsOf(n *kong.Node) (flags []*kong.Flag) {
	for ; n != nil; n = n.Parent {
		flags = append(flags, n.Flags...)
	}
	return slices.DeleteFunc(flags, func(f *kong.Flag) bool { return f.Hidden })
}

type manCmd struct{}

// Run prints the manual page.
func (c *manCmd) Run(k *kong.Context) error {
	m := manual{w: os.Stdout}
	m.line(`.TH SIPWAKE 1 "" "sipwake %s" "User Commands"`, troff(buildVersion()))
	m.line(".SH NAME\nsipwake \\- wakes sleeping phones for SIP proxies")
	m.line(".SH SYNOPSIS\n.B sipwake\n.I command\n.RI [ flags ]")
	m.line(".SH DESCRIPTION\n%s", troff(k.Model.Help))
	m.line("The commands but serve, check and templates ask the running sipwake, which they find by its configuration file.")
	m.line(".SH COMMANDS")
	eachCommand(k.Model.Node, func(path string, n *kong.Node) {
		if path != "" {
			m.command(path, n)
		}
	})
	m.line(".SH EXIT STATUS\n0 if all is well, 1 if not or if nothing was found, 2 if the command line is wrong.")
	m.line(".SH FILES\n.TP\n.I /etc/sipwake/sipwake.yml\nThe configuration.\n.TP\n.I /usr/share/doc/sipwake/docs\nThe documentation.")
	return m.err
}

// manual writes troff.
type manual struct {
	w   io.Writer
	err error
}

func (m *manual) line(format string, args ...any) {
	if m.err == nil {
		_, m.err = fmt.Fprintf(m.w, format+"\n", args...)
	}
}

func (m *manual) command(path string, n *kong.Node) {
	usage := strings.ReplaceAll(path, "/", " ")
	for _, a := range n.Positional {
		usage += " " + a.Summary()
	}
	m.line(".SS sipwake %s\n%s", troff(usage), troff(n.Help))
	for _, f := range n.Flags {
		if f.Hidden || f.Name == "help" {
			continue
		}
		name := "--" + f.Name
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		if !f.IsBool() {
			name += "=" + f.FormatPlaceHolder()
		}
		m.line(".TP\n.B %s\n%s", troff(name), troff(f.Help))
	}
}

// troff escapes text so that troff does not interpret any of it.
func troff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
