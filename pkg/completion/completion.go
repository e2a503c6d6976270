// Package completion writes a script with which a shell completes a program's command line: commands, flags, and the
// values of flags and arguments that have a fixed set. The script is made from kong's model, so it fits the program
// exactly. It is static: the program doesn't run when somebody presses the tab key.
//
//	source <(app completion bash)      # in ~/.bashrc; zsh: in ~/.zshrc
//	app completion fish | source       # in ~/.config/fish/config.fish
//
// Words after -- belong to another program and are completed as files, and so are values without a fixed set.
package completion

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

// Shells are the shells that Write knows.
const Shells = "bash,zsh,fish"

// Write writes the script for one of Shells. The program's name is the model's. It returns w's error, or one for an unknown
// shell.
func Write(w io.Writer, shell string, model *kong.Application) error {
	text := map[string]string{"bash": bash, "zsh": zsh + bash, "fish": fish}[shell]
	if text == "" {
		return fmt.Errorf("completion: %q is none of %s", shell, Shells)
	}
	join := func(list []string) string { return strings.Join(list, " ") }
	t, err := template.New(shell).Funcs(template.FuncMap{"quote": quote, "join": join}).Parse(text)
	if err != nil {
		return fmt.Errorf("completion: %w", err)
	}
	name := strings.ReplaceAll(model.Name, "-", "_")
	return t.Execute(w, script{Program: model.Name, Function: "_" + name + "_complete", At: "__" + name + "_at",
		Places: places(model.Node, "", nil)})
}

// script is the data for the templates.
type script struct {
	Program, Function, At string
	Places                []place
}

// place is a command and the words that may follow it.
type place struct {
	Path     string // " ctl chaos"; empty for the program itself
	Commands []named
	Flags    []flag
	Args     []argument
}

type named struct{ Path, Name, Help string }

type flag struct {
	Name  string // without dashes
	Short string // one letter, or empty
	Help  string
	Takes bool     // whether it has a value
	Enum  []string // its values, if they are fixed
}

// Words returns the flag as it is typed.
func (f flag) Words() []string {
	if f.Short != "" {
		return []string{"--" + f.Name, "-" + f.Short}
	}
	return []string{"--" + f.Name}
}

// argument is a positional one with a fixed set of values.
type argument struct {
	Place int // how many arguments come before it
	Enum  []string
}

// places returns the node and all below it. Flags of a command are also those of the ones below.
func places(n *kong.Node, path string, inherited []flag) []place {
	p := place{Path: path, Flags: slices.Concat(inherited, flags(n))}
	for i, a := range n.Positional {
		if enum := values(a); len(enum) > 0 {
			p.Args = append(p.Args, argument{i, enum})
		}
	}
	var below []place
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		p.Commands = append(p.Commands, named{path + " " + child.Name, child.Name, child.Help})
		below = append(below, places(child, path+" "+child.Name, p.Flags)...)
	}
	if d := n.DefaultCmd; d != nil && d.Tag.Default == "withargs" {
		p.Flags = append(p.Flags, flags(d)...)
	}
	return append([]place{p}, below...)
}

func flags(n *kong.Node) (list []flag) {
	for _, f := range n.Flags {
		if f.Hidden {
			continue
		}
		short := ""
		if f.Short != 0 {
			short = string(f.Short)
		}
		list = append(list, flag{f.Name, short, f.Help, !f.IsBool() && !f.IsCounter(), values(f.Value)})
		if f.Tag.Negatable != "" {
			list = append(list, flag{Name: cmp.Or(strings.Trim(f.Tag.Negatable, "_"), "no-"+f.Name), Help: "Not: " + f.Help})
		}
	}
	return list
}

func values(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}

// quote quotes a word for fish, and for bash if it has no single quote.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// bash is the template for bash. It finds the command, and a flag that needs its value, in the words before the cursor. Bash
// splits a word with = into three.
const bash = `# bash completion for {{.Program}}, made by: {{.Program}} completion
{{.Function}}() {
	local path='' want='' before=0 words='' word i cur="${COMP_WORDS[COMP_CWORD]}"
	for ((i = 1; i < COMP_CWORD; i++)); do
		word="${COMP_WORDS[i]}"
		if [ -n "$want" ]; then
			[ "$word" = "=" ] || want=''
			continue
		fi
		[ "$word" != "--" ] || return 0
		case "$path $word" in
{{- range .Places}}{{range .Commands}}
		{{quote .Path}}) path="$path $word" ;;
{{- end}}{{end}}
{{- range .Places}}{{$path := .Path}}{{range .Flags}}{{if .Takes}}
		{{range $i, $w := .Words}}{{if $i}} | {{end}}{{quote (printf "%s %s" $path $w)}}{{end}}) want="$path --{{.Name}}" ;;
{{- end}}{{end}}{{end}}
		*" "-*) ;;
		*) before=$((before + 1)) ;;
		esac
	done
	if [ -n "$want" ]; then
		case "$want" in
{{- range .Places}}{{$path := .Path}}{{range .Flags}}{{if .Enum}}
		{{quote (printf "%s --%s" $path .Name)}}) words={{quote (join .Enum)}} ;;
{{- end}}{{end}}{{end}}
		*) return 0 ;;
		esac
	else
		case "$cur" in
		-*)
			case "$path" in
{{- range .Places}}
			{{quote .Path}}) words='{{range .Flags}}{{join .Words}} {{end}}' ;;
{{- end}}
			esac
			;;
		*)
			case "$path $before" in
{{- range .Places}}{{$path := .Path}}{{if .Commands}}
			{{quote (printf "%s 0" $path)}}) words='{{range .Commands}}{{.Name}} {{end}}' ;;
{{- end}}{{range .Args}}
			{{quote (printf "%s %d" $path .Place)}}) words={{quote (join .Enum)}} ;;
{{- end}}{{end}}
			esac
			;;
		esac
	fi
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o bashdefault -o default -F {{.Function}} {{.Program}}
`

// zsh reads the script for bash.
const zsh = `# zsh completion for {{.Program}}, made by: {{.Program}} completion zsh
(( $+functions[compdef] )) || { autoload -U +X compinit && compinit; }
autoload -U +X bashcompinit && bashcompinit
`

// fish needs one line for each word, with its condition: the command before it, and the number of arguments.
const fish = `# fish completion for {{.Program}}, made by: {{.Program}} completion fish
function {{.At}}
	set -l path ''
	set -l want ''
	set -l before 0
	for word in (commandline -opc)[2..-1]
		if test -n "$want"
			set want ''
			continue
		end
		if test "$word" = --
			set path ' --'
			break
		end
		switch "$path $word"
{{- range .Places}}{{range .Commands}}
			case {{quote .Path}}
				set path "$path $word"
{{- end}}{{end}}
{{- range .Places}}{{$path := .Path}}{{range .Flags}}{{if .Takes}}
			case{{range .Words}} {{quote (printf "%s %s" $path .)}}{{end}}
				set want 1
{{- end}}{{end}}{{end}}
			case '* -*'
			case '*'
				set before (math $before + 1)
		end
	end
	test "$path" = "$argv[1]"; and test -z "$argv[2]" -o "$argv[2]" = "$before"
end
complete -c {{.Program}} -f
complete -c {{.Program}} -n {{quote (printf "%s ' --'" .At)}} -F
{{- $p := .}}
{{- range .Places}}{{$path := .Path}}{{range .Commands}}
complete -c {{$p.Program}} -n {{quote (printf "%s '%s' 0" $p.At $path)}} -a {{quote .Name}} -d {{quote .Help}}
{{- end}}{{range .Args}}
complete -c {{$p.Program}} -n {{quote (printf "%s '%s' %d" $p.At $path .Place)}} -a {{quote (join .Enum)}}
{{- end}}{{range .Flags}}
complete -c {{$p.Program}} -n {{quote (printf "%s '%s'" $p.At $path)}} -l {{.Name}}{{if .Short}} -s {{.Short}}{{end}}{{/*
*/}}{{if .Enum}} -x -a {{quote (join .Enum)}}{{else if .Takes}} -r -F{{end}} -d {{quote .Help}}
{{- end}}{{end}}
`
