package baseapp_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayCall names the few places that make a client, a transport, a dialer or a server of their own, and why; all
// others call through web.Client and pkg/dependency and serve through web.Server, which have every limit.
var mayCall = []struct{ file, what, why string }{
	{"pkg/web/client.go", "http.Client", "the place where clients are made: its transport has the policy's times"},
	{"pkg/web/client.go", "http.Transport", "the same"},
	{"pkg/web/web.go", "http.Server", "the place where servers are made"},
	{"pkg/control/client.go", "http.Client", "asks this app over its own socket: no dependency"},
	{"pkg/control/client.go", "http.Transport", "the same"},
	{"pkg/control/stream.go", "http.Client", "the same, for long answers: each read has a deadline"},
	{"pkg/control/stream.go", "http.Transport", "the same"},
	{"pkg/cli/health.go", "http.Client", "asks this app for its own health"},
	{"pkg/cli/health.go", "http.Transport", "the same"},
	{"pkg/telemetry/influx/influx.go", "http.Client", "has a bounded queue and pauses of its own, and would measure itself through a dependency"},
	{"pkg/telemetry/influx/influx.go", "http.Transport", "the same"},
	{"examples/demo/load/drive.go", "http.Transport", "a load client: a breaker would spare what it is to drive into trouble. Each request has a timeout"},
	{"examples/demo/load/drive.go", "http.Client", "the same"},
	{"pkg/zmq/endpoint.go", "net.Dialer", "its context is the Bind's, and a unix socket answers or refuses at once"},
}

// needed are the fields without which a literal waits for ever; one of each line is enough. What has no line is not
// made at all outside mayCall.
var needed = map[string][][]string{
	"http.Client":    {{"Timeout"}},
	"http.Transport": {{"DialContext"}},
	"http.Server":    {{"ReadHeaderTimeout"}, {"ReadTimeout"}, {"WriteTimeout"}, {"IdleTimeout"}},
	"net.Dialer":     {{"Timeout", "Deadline"}},
}

// endless are functions and variables that have no timeout and can't be given one.
var endless = []string{
	"http.DefaultClient", "http.DefaultTransport", "http.Get", "http.Head", "http.Post", "http.PostForm",
	"http.ListenAndServe", "http.ListenAndServeTLS", "http.Serve", "http.ServeTLS",
	"net.Dial", "net.DialTCP", "net.DialUDP", "net.DialUnix", "net.DialIP", "tls.Dial", "tls.Dialer", "smtp.SendMail", "smtp.Dial",
}

func TestNoCallAndNoServerIsWithoutTimeouts(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, f := range timeless(s) {
			at := slices.IndexFunc(mayCall, func(m struct{ file, what, why string }) bool { return m.file == s.path && m.what == f.what })
			if at >= 0 {
				used[mayCall[at].file+mayCall[at].what] = true
			}
			if f.endless || at < 0 {
				t.Errorf("%s: %s: call through web.Client or dependency.Dependency, and serve through web.Server", s.set.Position(f.pos), f.text)
			}
		}
	}
	_, template := module(t)
	for _, m := range mayCall {
		if !used[m.file+m.what] && (template || exists(m.file)) { // a fork may have removed the part
			t.Errorf("%s makes no %s any more: remove it from the list", m.file, m.what)
		}
	}
}

// finding is something that calls or serves. It is endless if it has no timeout, wherever it stands.
type finding struct {
	pos     token.Pos
	what    string
	text    string
	endless bool
}

// timeless finds what s makes of the types in needed, and what it uses of endless.
func timeless(s source) (list []finding) {
	names := map[string]string{} // as the file calls the packages → as our tables do
	for _, i := range s.file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		if slices.Contains([]string{"net", "net/http", "crypto/tls", "net/smtp"}, p) {
			names[name] = path.Base(p)
		}
	}
	named := func(e ast.Expr) string {
		if sel, ok := e.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok && names[pkg.Name] != "" {
				return names[pkg.Name] + "." + sel.Sel.Name
			}
		}
		return ""
	}
	add := func(pos token.Pos, what, text string, endless bool) {
		list = append(list, finding{pos, what, text, endless})
	}
	zero := func(pos token.Pos, e ast.Expr) { // a variable, a field or new(T), with the zero value at first
		if what := named(e); needed[what] != nil {
			add(pos, what, "the zero "+what+" has no timeout", false)
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			if n.Name != nil && n.Name.Name == "." {
				add(n.Pos(), "", "a dot import hides calls from this test", true)
			}
		case *ast.SelectorExpr:
			if what := named(n); slices.Contains(endless, what) {
				add(n.Pos(), what, what+" has no timeout", true)
			}
		case *ast.CompositeLit:
			what := named(n.Type)
			if needed[what] == nil {
				return true
			}
			missing := lacking(n, needed[what])
			if what == "net.Dialer" && missing == "" {
				return true // good everywhere
			}
			// The client of client.go is the exception that the rest of the tree relies on: its times are the policy's.
			bad := missing != "" && s.path != "pkg/web/client.go"
			add(n.Pos(), what, strings.TrimSuffix(what+"{} without "+missing, " without "), bad)
		case *ast.ValueSpec:
			if len(n.Values) == 0 {
				zero(n.Pos(), n.Type)
			}
		case *ast.Field:
			zero(n.Pos(), n.Type)
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "new" && len(n.Args) == 1 {
				zero(n.Pos(), n.Args[0])
			}
		}
		return true
	})
	return list
}

func lacking(lit *ast.CompositeLit, want [][]string) string {
	for _, choice := range want {
		if !slices.ContainsFunc(lit.Elts, func(e ast.Expr) bool {
			kv, ok := e.(*ast.KeyValueExpr)
			if !ok {
				return false
			}
			key, ok := kv.Key.(*ast.Ident)
			return ok && slices.Contains(choice, key.Name)
		}) {
			return strings.Join(choice, " or ")
		}
	}
	return ""
}

// A rule that finds nothing may be a rule that can't: this shows each thing that it is there to find.
func TestTheRuleAboutTimeoutsFindsWhatItShould(t *testing.T) {
	const imports = "package x\nimport (\"net\"; web \"net/http\"; \"crypto/tls\")\n"
	for code, want := range map[string]string{
		`var _ = web.Client{}`:                    "http.Client{} without Timeout",
		`var _ = &web.Client{Jar: nil}`:           "http.Client{} without Timeout",
		`var _ = web.Client{Timeout: 1}`:          "http.Client{}",
		`var c web.Client`:                        "the zero http.Client has no timeout",
		`var c = new(web.Client)`:                 "the zero http.Client has no timeout",
		`type x struct{ c web.Client }`:           "the zero http.Client has no timeout",
		`type x struct{ web.Client }`:             "the zero http.Client has no timeout",
		`type x struct{ c *web.Client }`:          "",
		`func f() { web.Get("") }`:                "http.Get has no timeout",
		`var get = web.Get`:                       "http.Get has no timeout",
		`func f() { web.Head("") }`:               "http.Head has no timeout",
		`func f() { web.Post("", "", nil) }`:      "http.Post has no timeout",
		`var _ = web.DefaultClient`:               "http.DefaultClient has no timeout",
		`var _ = web.DefaultTransport`:            "http.DefaultTransport has no timeout",
		`var _ = &web.Transport{}`:                "http.Transport{} without DialContext",
		`var _ = net.Dialer{}`:                    "net.Dialer{} without Timeout or Deadline",
		`var d net.Dialer`:                        "the zero net.Dialer has no timeout",
		`var d = net.Dialer{Timeout: 1}`:          "",
		`func f() { net.Dial("", "") }`:           "net.Dial has no timeout",
		`func f() { net.DialTimeout("", "", 1) }`: "",
		`func f() { tls.Dial("", "", nil) }`:      "tls.Dial has no timeout",
		`var _ = web.Server{ReadHeaderTimeout: 1, ReadTimeout: 1, IdleTimeout: 1}`: "http.Server{} without WriteTimeout",
		`func f() { web.ListenAndServe("", nil) }`:                                 "http.ListenAndServe has no timeout",
	} {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, "x.go", imports+code, 0)
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, f := range timeless(source{path: "x/x.go", file: file, set: set}) {
			have = append(have, f.text)
		}
		if strings.Join(have, ", ") != want {
			t.Errorf("%s: want %q, have %q", code, want, have)
		}
	}
}
