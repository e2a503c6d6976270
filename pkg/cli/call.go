package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
)

// callCommand gives the commands that a fork has registered with Runtime.Command.
type callCommand struct {
	Name string   `arg:"" optional:"" help:"The command; without one, they are listed."`
	Args []string `arg:"" optional:"" help:"key=text, or key:=json for numbers, true, false, lists and objects."`
}

// Run lists the commands, or gives one: a GET without arguments, a POST with them as a JSON object. It prints the JSON
// answer.
func (c *callCommand) Run(p *program, of *ctl) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	ctx := context.Background()
	var known base.CommandList
	if err := client.Get(ctx, "/commands", &known); err != nil {
		return err
	}
	if c.Name == "" {
		return show(p.out, of.JSON, known, printCommands)
	}
	answer, err := answerOf(ctx, client, known.Commands, "/"+strings.TrimPrefix(c.Name, "/"), c.Args)
	if err != nil {
		return err
	}
	return show[json.RawMessage](p.out, true, answer, nil)
}

// answerOf gives the command at path, as it is registered, and returns the answer.
func answerOf(ctx context.Context, client *control.Client, known []string, path string, args []string) (answer json.RawMessage, err error) {
	asks, does := slices.Contains(known, "GET "+path), slices.Contains(known, "POST "+path)
	switch {
	case !asks && !does:
		return nil, &fault.Error{Kind: fault.KindUsage, Hint: "app ctl call lists them", Err: fmt.Errorf("the app has no command %s", path[1:])}
	case !does && len(args) > 0:
		return nil, fault.Usage("%s takes no arguments", path[1:])
	case asks && len(args) == 0:
		err = client.Get(ctx, path, &answer)
		return answer, err
	}
	body, err := bodyOf(args)
	if err != nil {
		return nil, err
	}
	err = client.Post(ctx, path, body, &answer)
	return answer, err
}

// bodyOf is the object that the arguments make.
func bodyOf(args []string) (map[string]any, error) {
	body := map[string]any{}
	for _, a := range args {
		key, text, ok := strings.Cut(a, "=")
		if !ok || strings.Trim(key, ":") == "" {
			return nil, fault.Usage("%q is neither key=text nor key:=json", a)
		}
		key, raw := strings.CutSuffix(key, ":")
		if _, twice := body[key]; twice {
			return nil, fault.Usage("%s is given twice", key)
		}
		body[key] = text
		if raw {
			if !json.Valid([]byte(text)) {
				return nil, fault.Usage("%s: what follows := is no JSON: %s", key, text)
			}
			body[key] = json.RawMessage(text)
		}
	}
	return body, nil
}

func printCommands(w io.Writer, list base.CommandList) {
	if len(list.Commands) == 0 {
		fmt.Fprintln(w, "the app has no commands of its own")
		return
	}
	fmt.Fprintln(w, "COMMAND\tTAKES")
	for _, c := range list.Commands {
		method, path, _ := strings.Cut(c, " /")
		takes := "nothing"
		if method == "POST" {
			takes = "key=value …"
		}
		fmt.Fprintf(w, "%s\t%s\n", path, takes)
	}
}
