package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"example.com/base-app/pkg/backup"
	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
)

const (
	// backupTime bounds each of the commands: a terabyte takes hours, and who has one knows what to do about it.
	backupTime = time.Hour
	// restartTime is how long an app may be away until it is taken for stopped: the monitor starts it again at once,
	// and a backup must not hold the folder then.
	restartTime = 3 * time.Second
	// startTime is how long an app that holds its folder may take until its control socket is there.
	startTime = 10 * time.Second
	// lookPause is the time between two looks for the app.
	lookPause = 100 * time.Millisecond
)

// backupCommands is the command line of `app backup`. This file owns what they print.
type backupCommands struct {
	Make    backupMake    `cmd:"" default:"1" help:"Copy the queue to BACKUP_DIR and BACKUP_SECOND_DIR, whether or not the app runs. This is what happens without a command."`
	Verify  backupVerify  `cmd:"" help:"Restore a backup into a scratch folder and compare: exit code 0 is good, 1 is not. The queue is left alone."`
	Restore backupRestore `cmd:"" help:"Make the queue of a backup. The app must be stopped, and no queue be there."`
}

// backup does a command, within its time. Ctrl-C ends the process.
func (p *program) backup(do func(ctx context.Context, s *base.Settings, log *slog.Logger) error) error {
	s, err := p.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), backupTime)
	defer cancel()
	return do(ctx, s, slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelError})))
}

type backupMake struct{}

// Run makes a backup.
func (backupMake) Run(p *program) error { return p.backup(p.makeBackup) }

type backupVerify struct {
	File string `arg:"" optional:"" help:"The backup; without one, the newest in BACKUP_DIR."`
}

// Run proves that a backup can be restored.
func (c *backupVerify) Run(p *program) error {
	return p.backup(func(ctx context.Context, s *base.Settings, log *slog.Logger) error {
		return p.verifyBackup(ctx, s, c.File, log)
	})
}

type backupRestore struct {
	File string `arg:"" help:"The backup."`
}

// Run restores a backup.
func (c *backupRestore) Run(p *program) error {
	return p.backup(func(ctx context.Context, s *base.Settings, log *slog.Logger) error {
		return p.restoreBackup(ctx, s, c.File, log)
	})
}

func (p *program) makeBackup(ctx context.Context, s *base.Settings, log *slog.Logger) error {
	if err := base.CheckBackup(s); err != nil {
		return err
	}
	targets := backup.Targets{Dir: s.Backup.Dir, Second: s.Backup.SecondDir, Keep: s.Backup.Keep}
	file, m, err := backup.Save(ctx, targets, time.Now(), func(w io.Writer) error { return copyQueue(ctx, s, w, log) })
	if file != "" {
		waiting, dead := m.Events()
		fmt.Fprintf(p.out, "%s: %d events that wait, %d dead letters\n", file, waiting, dead)
	}
	if n := m.Lost(); n > 0 && err == nil {
		err = &fault.Error{Hint: "look at the disk of DATA_DIR, and at the app's log since its last start",
			Err: fmt.Errorf("the backup was made, but the disk has damaged %d records, which are not in it", n)}
	}
	return err
}

// copyQueue writes a backup of the queue to w: of the running app through its control socket, else of the files. An
// app that is just being started again is waited for.
func copyQueue(ctx context.Context, s *base.Settings, w io.Writer, log *slog.Logger) error {
	client := control.NewClient(s.Control.Socket)
	began := time.Now()
	for {
		err := client.Stream(ctx, "/backup", w)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return err // it runs: the copy is made, or why it isn't is said
		}
		if time.Since(began) > restartTime {
			folder, lockErr := lifecycle.BorrowFolder(s.DataDir, "app backup")
			if lockErr == nil {
				return copyFiles(ctx, s, w, folder, log)
			}
			if time.Since(began) > startTime {
				return &fault.Error{Kind: fault.KindDependency, Hint: "the app hangs, or CONTROL_SOCKET differs from the app's",
					Err: fmt.Errorf("%w, but nobody answers at %s", lockErr, s.Control.Socket)}
			}
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// copyFiles holds the folder no longer than it takes to copy the files: the app may be started again meanwhile.
func copyFiles(ctx context.Context, s *base.Settings, w io.Writer, folder *lifecycle.Folder, log *slog.Logger) error {
	giveBack := sync.OnceFunc(func() { _ = folder.Close() })
	defer giveBack()
	dir := s.QueueDir()
	if _, err := os.Stat(dir); err != nil {
		return fault.Config("is DATA_DIR the app's?", fmt.Errorf("there is no queue to back up: %w", err))
	}
	_, err := backup.WriteFiles(ctx, w, dir, s.Backup.Dir, giveBack, base.Manifest(s), log)
	return err
}

func (p *program) verifyBackup(ctx context.Context, s *base.Settings, file string, log *slog.Logger) error {
	m, file, err := verify(ctx, s, file, log)
	if err != nil {
		return &fault.Error{Op: "backup verify", Hint: fault.Hint(err), Err: err} // whatever it is, the answer is no
	}
	waiting, dead := m.Events()
	fmt.Fprintf(p.out, "%s: good: of %s, restored and compared, %d events that wait, %d dead letters\n", file, m.Time.Format(time.RFC3339),
		waiting, dead)
	return nil
}

func verify(ctx context.Context, s *base.Settings, file string, log *slog.Logger) (backup.Manifest, string, error) {
	if file == "" {
		names, err := backup.List(s.Backup.Dir)
		if err != nil {
			return backup.Manifest{}, "", err
		}
		if len(names) == 0 {
			return backup.Manifest{}, "", fmt.Errorf("there is no backup in %s", s.Backup.Dir)
		}
		file = filepath.Join(s.Backup.Dir, names[len(names)-1])
	}
	m, err := backup.Verify(ctx, file, s.Backup.Dir, log)
	return m, file, err
}

func (p *program) restoreBackup(ctx context.Context, s *base.Settings, file string, log *slog.Logger) error {
	if err := base.CheckBackup(s); err != nil {
		return err
	}
	if err := os.MkdirAll(s.DataDir, 0o755); err != nil {
		return fault.Config("make DATA_DIR writable", err)
	}
	folder, err := lifecycle.BorrowFolder(s.DataDir, "app backup restore")
	if err != nil {
		return err
	}
	defer folder.Close()
	m, err := backup.Restore(ctx, file, s.QueueDir(), log)
	if err != nil {
		return err
	}
	waiting, dead := m.Events()
	fmt.Fprintf(p.out, "%s: restored, %d events that wait, %d dead letters; the app may be started\n", s.QueueDir(), waiting, dead)
	return nil
}
