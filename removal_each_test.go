//go:build parts

package baseapp_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestAPartIsRemovedByItsFolderItsFilesAndItsMarkedLines(t *testing.T) {
	all := modules(t, "")
	for name, own := range parts {
		t.Run(name, func(t *testing.T) {
			left := modules(t, without(t, name))
			gone := slices.DeleteFunc(slices.Clone(all), func(m string) bool { return slices.Contains(left, m) })
			t.Logf("without %s go.mod needs no longer: %s", name, strings.Join(gone, " "))
			for _, m := range own {
				if !slices.Contains(gone, m) {
					t.Errorf("without %s nothing should need %s", name, m)
				}
			}
		})
	}
}

// modules are those that the rooms need, with the overlay if there is one.
func modules(t *testing.T, overlay string) []string {
	t.Helper()
	args := append([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", fmt.Sprint("-overlay=", overlay)}, built(t)...)
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(string(out))
	slices.Sort(list)
	return slices.Compact(list)
}
