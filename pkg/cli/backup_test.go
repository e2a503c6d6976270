package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/base"
)

// The control socket is there before the queue.
func TestABackupWaitsForTheQueueOfAnAppThatStarts(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(*base.Runtime) error
		code int
		said string
	}{
		{"it is opened", func(rt *base.Runtime) error { _, err := rt.OpenQueue(1, 0); return err }, 0, "0 events that wait"},
		{"the app ends", func(rt *base.Runtime) error { rt.Done("tested"); return nil }, 1, "the queue is not open yet"},
	} {
		vars := []string{"DATA_DIR=" + t.TempDir()}
		code, out, err := call(t, func(rt *base.Runtime) error {
			said := make(chan string, 1)
			go func() {
				code, out, err := call(t, nil, vars, "backup")
				said <- fmt.Sprint(code, " ", out, err)
			}()
			<-time.After(300 * time.Millisecond) // it has asked by then, most likely
			if err := c.then(rt); err != nil {
				return err
			}
			if have := <-said; !strings.HasPrefix(have, fmt.Sprint(c.code)) || !strings.Contains(have, c.said) {
				t.Errorf("%s: want %d, %s, have %s", c.name, c.code, c.said, have)
			}
			return nil
		}, vars)
		if code != 0 {
			t.Errorf("%s: want a run that ends well, have %d, %s\n%s", c.name, code, err, out)
		}
	}
}
