package cli

// commands is the command line.
type commands struct {
	Run        runCommand        `cmd:"" default:"1" help:"Run the app. This is what happens without a command."`
	Version    versionCommand    `cmd:"" help:"Print version, commit and Go version."`
	Config     configCommand     `cmd:"" help:"Print every setting with its meaning, default and value; secrets are redacted."`
	Health     healthCommand     `cmd:"" help:"Ask the running app for its health: exit code 0 is healthy, 1 is not. For probes."`
	Cleanup    cleanupCommand    `cmd:"" help:"Remove old dumps, errors and crash reports from the data folder. For cron: it works when the app is dead, too."`
	Backup     backupCommands    `cmd:"" help:"Back up the queue, prove that a backup can be restored, restore it."` // part backup
	Ctl        ctl               `cmd:"" help:"Talk to the running app through its control socket."`
	Completion completionCommand `cmd:"" help:"Print what makes a shell complete this command line: source <(app completion bash)."`
}

// ctl is the command line of `app ctl`.
type ctl struct {
	JSON   bool          `name:"json" help:"Print the answer as JSON."`
	Status statusCommand `cmd:"" help:"How the app is."`

	Workers      workersCommand      `cmd:"" help:"Each worker: what it does, since when, how often it was restarted."`
	Sockets      socketsCommand      `cmd:"" help:"Each open socket: whose, and where in the code it was made."`
	Jobs         scheduleCommand     `cmd:"" help:"Each job: when it runs, how its last run ended, when the next one is."` // part schedule
	Dependencies dependenciesCommand `cmd:"" help:"Each dependency: how it is, since when, its breaker, its last error."`
	Loglevel     loglevelCommand     `cmd:"" help:"Show or change the log level. It lasts until the app ends."`
	Queue        queueCommands       `cmd:"" help:"The events: how many, and those that could not be handled."`
	Chaos        chaosCommands       `cmd:"" help:"Make something fail on purpose, to see what the app does."` // part chaos
	Dump         dumpCommand         `cmd:"" help:"Write a state dump to the log and the data folder, without stopping the app."`
	Call         callCommand         `cmd:"" help:"Give a command of the app's own, or list them."`
}
