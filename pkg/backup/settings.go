package backup

import (
	"cmp"
	"path/filepath"

	"example.com/base-app/pkg/config"
)

// Settings say where backups of the queue are kept.
type Settings struct {
	Dir       string        `envconfig:"BACKUP_DIR" group:"BACKUP" desc:"folder that app backup keeps its files in; empty means backups in DATA_DIR"`
	SecondDir string        `envconfig:"BACKUP_SECOND_DIR" desc:"folder for a copy of each backup, on another disk or machine; it must be there, and only this app may use it. Empty means no copy"`
	Keep      int           `envconfig:"BACKUP_KEEP" default:"7" min:"1" max:"1000" desc:"how many backups stay in each folder; the oldest is removed when a new one is whole"`
	PingURL   config.Secret `envconfig:"HC_BACKUP_PING_URL" desc:"the check that the container's cron pings after the daily backup and its verification; empty means none. The app itself doesn't use it"`
}

// Resolve fills in what depends on the data folder.
func (s *Settings) Resolve(dataDir string) {
	s.Dir = cmp.Or(s.Dir, filepath.Join(dataDir, "backups"))
}
