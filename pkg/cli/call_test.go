package cli

import (
	"net/http"
	"strings"
	"testing"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/control"
)

// A fork's commands are reached by name; a GET takes nothing, a POST takes what is given as a JSON object.
func TestACommandOfAForkIsReached(t *testing.T) {
	vars := []string{"DATA_DIR=" + t.TempDir()}
	code, _, failed := call(t, func(rt *base.Runtime) error {
		if code, out, _ := call(t, nil, vars, "ctl", "call"); code != 0 || out != "the app has no commands of its own\n" {
			t.Errorf("want none, have %d, %s", code, out)
		}
		rt.Command("GET /stock", func(*http.Request) (any, error) { return map[string]int{"books": 7}, nil })
		rt.Command("POST /stock", func(r *http.Request) (any, error) {
			var in map[string]any
			err := control.Arguments(r, &in, `{"books":7}`)
			return in, err
		})
		rt.Command("POST /stock/count", func(*http.Request) (any, error) { return "counted", nil })
		rt.Command("GET /shelves", func(*http.Request) (any, error) { return []int{}, nil })
		for _, c := range []struct {
			args     string
			code     int
			out, err string
		}{
			{"", 0, "COMMAND      TAKES\nstock        nothing\nstock        key=value …\nstock/count  key=value …\nshelves      nothing\n", ""},
			{"stock", 0, "{\n  \"books\": 7\n}\n", ""},
			{"/stock", 0, "{\n  \"books\": 7\n}\n", ""},
			{"stock title=7=x books:=7 note=", 0, "{\n  \"books\": 7,\n  \"note\": \"\",\n  \"title\": \"7=x\"\n}\n", ""},
			{"stock/count", 0, "\"counted\"\n", ""},
			{"shelves", 0, "[]\n", ""},
			{"shelves a=b", 64, "", "app: shelves takes no arguments\n"},
			{"stock a", 64, "", "app: \"a\" is neither key=text nor key:=json\n"},
			{"stock =b", 64, "", "app: \"=b\" is neither key=text nor key:=json\n"},
			{"stock a=b a=c", 64, "", "app: a is given twice\n"},
			{"stock a:=b", 64, "", "app: a: what follows := is no JSON: b\n"},
			{"status", 64, "", "app: the app has no command status (app ctl call lists them)\n"},
		} {
			code, out, err := call(t, nil, vars, append([]string{"ctl", "call"}, strings.Fields(c.args)...)...)
			if code != c.code || out != c.out || err != c.err {
				t.Errorf("%s: want %d, %q, %q, have %d, %q, %q", c.args, c.code, c.out, c.err, code, out, err)
			}
		}
		rt.Done("tested")
		return rt.Wait()
	}, vars)
	if code != 0 {
		t.Errorf("have %d, %s", code, failed)
	}
	if code, _, err := call(t, nil, vars, "ctl", "call"); code != 69 || !strings.Contains(err, "is the app running?") {
		t.Errorf("want 69, have %d, %s", code, err)
	}
}
