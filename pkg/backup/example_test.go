package backup_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"example.com/base-app/pkg/backup"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "data")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	q, err := queue.Open(ctx, queue.Options{Dir: filepath.Join(dir, "queue")})
	if err != nil {
		panic(err)
	}
	defer q.Close(ctx)
	if _, err := q.Publish(ctx, event.Event{ID: "order-1", Body: []byte(`{"order":1}`)}); err != nil {
		panic(err)
	}

	targets := backup.Targets{Dir: filepath.Join(dir, "backups"), Keep: 7}
	file, _, err := backup.Save(ctx, targets, time.Now(), func(w io.Writer) error {
		_, err := backup.Write(ctx, w, q, backup.Manifest{Time: time.Now(), App: "shop", Version: "1.0"})
		return err
	})
	fmt.Println("saved:", err)

	m, err := backup.Verify(ctx, file, targets.Dir, nil)
	waiting, dead := m.Events()
	fmt.Println("verified:", waiting, "waiting,", dead, "dead,", err)

	_, err = backup.Restore(ctx, file, filepath.Join(dir, "elsewhere", "queue"), nil)
	fmt.Println("restored:", err)
	// Output:
	// saved: <nil>
	// verified: 1 waiting, 0 dead, <nil>
	// restored: <nil>
}
