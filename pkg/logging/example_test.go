package logging_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/worker"
)

func Example() {
	l, err := logging.New(logging.Options{App: "shop", Version: "1.2.3", Format: "json", Syslog: "off", Out: withoutTime{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	defer l.Close(ctx)
	log := l.Logger()

	log.Debug("reading the settings", "outputs", l.Outputs())
	l.Started() // from here on info, the configured level
	log.Debug("nobody sees this")

	ctx = worker.NewContext(ctx, worker.New("till"))
	ctx = logging.With(ctx, slog.String("request_id", "r1"))
	log.InfoContext(ctx, "sold", "item", "a pen")
	// Output:
	// {"level":"DEBUG","msg":"reading the settings","app":"shop","worker":"main","version":"1.2.3","outputs":"json to logging_test.withoutTime, no syslog"}
	// {"level":"INFO","msg":"sold","app":"shop","worker":"till","version":"1.2.3","request_id":"r1","item":"a pen"}
}

// withoutTime prints lines as they would be at no time, so that they can be checked.
type withoutTime struct{}

func (withoutTime) Write(p []byte) (int, error) {
	const field = `"time":"TIME",`
	s := hide(string(p))
	fmt.Fprint(os.Stdout, "{"+s[len("{")+len(field):])
	return len(p), nil
}
