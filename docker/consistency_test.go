// Package docker_test checks, without Docker, that the files which make the container agree with each other: times
// nest, users, ports, paths and names are the same wherever they stand. They are read as text, by patterns that fail
// where they find nothing. The container itself is tested in docker/e2e.
package docker_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// find returns the first group of every match in a file, and fails where there is none.
func find(t *testing.T, name, pattern string) []string {
	t.Helper()
	var all []string
	for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(read(t, name), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s has nothing like %s", name, pattern)
	}
	return all
}

// same fails unless all values are the wanted one.
func same(t *testing.T, what, want string, have ...string) {
	t.Helper()
	for _, h := range have {
		if h != want {
			t.Errorf("%s: want %s everywhere, have %s", what, want, h)
		}
	}
}

// section is a part of supervisord.conf: its name and what it sets.
type section struct {
	name string
	set  map[string]string
}

func supervisord(t *testing.T) []section {
	t.Helper()
	var all []section
	for line := range strings.Lines(read(t, "supervisord.conf")) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			all = append(all, section{strings.TrimSuffix(name, "]"), map[string]string{}})
		} else if key, value, ok := strings.Cut(line, "="); ok && line[0] != ';' {
			all[len(all)-1].set[key] = value
		}
	}
	return all
}

// programs are the sections of what supervisord runs.
func programs(t *testing.T) []section {
	t.Helper()
	list := slices.DeleteFunc(supervisord(t), func(s section) bool {
		return !strings.HasPrefix(s.name, "program:") && !strings.HasPrefix(s.name, "eventlistener:")
	})
	if len(list) < 3 {
		t.Fatalf("want the app, cron and the listener in supervisord.conf, have %v", list)
	}
	return list
}

func number(t *testing.T, s section, key string) int {
	t.Helper()
	n, err := strconv.Atoi(s.set[key])
	if err != nil {
		t.Fatalf("[%s] %s: %v", s.name, key, err)
	}
	return n
}

func span(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Each rung of the ladder gets its time before the next one acts.
func TestGraceTimesNest(t *testing.T) {
	// reserve is what docker leaves beyond the stops of all programs, which come one after another.
	const reserve = 5 * time.Second
	monitorKill := span(t, find(t, "supervisord.conf", `^command=.*/monitor .*--stop-grace (\S+) .*-- /usr/local/bin/app$`)[0])
	grace := span(t, find(t, "docs/settings.md", "^\\| `SHUTDOWN_GRACE` \\| a duration from \\S+ to (\\S+) ")[0])
	forced := grace + span(t, find(t, "docs/settings.md", "SHUTDOWN_GRACE.*the forced end follows (\\S+) later")[0])
	var app, sum time.Duration
	for _, p := range programs(t) {
		wait := time.Duration(number(t, p, "stopwaitsecs")) * time.Second
		sum += wait
		if p.name == "program:app" {
			app = wait
		}
	}
	docker := span(t, find(t, "docker-compose.yml", "^ +stop_grace_period: (\\S+)$")[0])
	ladder := []struct {
		what string
		at   time.Duration
	}{
		{"the app's dump (the longest SHUTDOWN_GRACE)", grace}, {"its forced end", forced}, {"the monitor's kill", monitorKill},
		{"supervisord's kill (stopwaitsecs)", app}, {"all programs' stopwaitsecs and 5 s", sum + reserve}, {"docker's kill (stop_grace_period)", docker},
	}
	for i, rung := range ladder[1:] {
		if before := ladder[i]; rung.at <= before.at {
			t.Errorf("%s comes after %v, want that later than %s, after %v", rung.what, rung.at, before.what, before.at)
		}
	}
}

func TestSupervisordDependsOnNoDefault(t *testing.T) {
	wanted := []string{"command", "autorestart", "startsecs", "startretries", "stopsignal", "stopwaitsecs", "stopasgroup", "killasgroup", "priority"}
	list := programs(t)
	for _, p := range list {
		want := wanted
		if p.set["autorestart"] == "unexpected" {
			want = append(slices.Clone(want), "exitcodes")
		}
		for _, key := range want {
			if p.set[key] == "" {
				t.Errorf("[%s] doesn't say %s", p.name, key)
			}
		}
		logs := []string{"stdout_logfile"}
		if p.set["redirect_stderr"] != "true" {
			logs[0] = "stderr_logfile" // a listener's standard output is its talk with supervisord
		}
		for _, l := range logs {
			if p.set[l] != "/dev/stdout" || p.set[l+"_maxbytes"] != "0" {
				t.Errorf("[%s] doesn't print to the container's log", p.name)
			}
		}
		if p.name != "program:app" && number(t, p, "priority") >= number(t, list[0], "priority") {
			t.Errorf("[%s] has a priority that stops it before the app", p.name)
		}
	}
	if list[0].name != "program:app" || list[0].set["autorestart"] != "unexpected" || list[0].set["exitcodes"] != "0" {
		t.Errorf("want the app restarted after every end but a clean one, have %v", list[0])
	}
	for _, event := range []string{"PROCESS_STATE_FATAL", "PROCESS_STATE_EXITED"} {
		if !strings.Contains(find(t, "supervisord.conf", "^events=(.*)$")[0], event) {
			t.Errorf("the listener does not hear of %s", event)
		}
	}
}

func TestUserAgrees(t *testing.T) {
	uid := find(t, "Dockerfile", `useradd --uid (\d+) `)[0]
	same(t, "gid", uid, append(find(t, "Dockerfile", `groupadd --gid (\d+) `), find(t, "Dockerfile", `useradd .*--gid (\d+) `)...)...)
	same(t, "USER", uid+":"+uid, find(t, "Dockerfile", `^USER (\S+)$`)...)
	same(t, "uid of tmpfs", uid, find(t, "docker-compose.yml", `^ +- /\w+:.*uid=(\d+)`)...)
	same(t, "gid of tmpfs", uid, find(t, "docker-compose.yml", `^ +- /\w+:.*gid=(\d+)`)...)
	same(t, "group of a secret", uid, find(t, "docker/compose.secrets.yml", `-g (\d+) `)...)
}

func TestPortAgreesAndIsLocal(t *testing.T) {
	port := find(t, "Dockerfile", `WEB_ADDR=:(\d+)$`)[0]
	same(t, "EXPOSE", port, find(t, "Dockerfile", `^EXPOSE (.*)$`)...)
	published := find(t, "docker-compose.yml", `(?s)ports:\n(.*?)\n +volumes:`)[0]
	for line := range strings.Lines(published) {
		if entry := strings.TrimSpace(line); !strings.HasPrefix(entry, "- 127.0.0.1:") || !strings.HasSuffix(entry, ":"+port) {
			t.Errorf("want only 127.0.0.1:…:%s published, have %s", port, entry)
		}
	}
	same(t, "default port on the host", port, find(t, ".env.example", `^#HOST_PORT=(\d+)$`)...)
}

// brought is what a Debian package that the Dockerfile installs has for us.
var brought = map[string][]string{"supervisor": {"supervisord", "supervisorctl"}, "tini": {"tini"}, "curl": {"curl"}}

// shipped returns the files that the Dockerfile puts into the image, and the names of the programs among them.
func shipped(t *testing.T) (files, names []string) {
	t.Helper()
	stage := read(t, "Dockerfile")
	stage = stage[strings.LastIndex(stage, "\nFROM "):]
	for _, m := range regexp.MustCompile(`(?m)^COPY (?:--\S+ )*(.*) (/\S+/)$`).FindAllStringSubmatch(stage, -1) {
		for _, source := range strings.Fields(m[1]) {
			files = append(files, m[2]+path.Base(source))
			if m[2] == "/usr/local/bin/" {
				names = append(names, path.Base(source))
			}
		}
	}
	for p, programs := range brought {
		if slices.Contains(strings.Fields(find(t, "Dockerfile", `apt-get install (.*) >`)[0]), p) {
			names = append(names, programs...)
		}
	}
	if len(files) < 6 || len(names) < 6 {
		t.Fatalf("want the files of the image, have %q and %q", files, names)
	}
	return files, names
}

func TestEveryPathAndProgramIsInTheImage(t *testing.T) {
	files, names := shipped(t)
	var paths, used []string
	for _, p := range programs(t) {
		for _, word := range strings.Fields(p.set["command"]) {
			if strings.HasPrefix(word, "/") {
				paths = append(paths, word)
			}
		}
	}
	paths = append(paths, find(t, "docker/entrypoint.sh", `^exec \S+ -c (\S+)$`)...)
	for _, p := range paths {
		if !slices.Contains(files, p) {
			t.Errorf("the Dockerfile doesn't put %s there", p)
		}
	}
	used = append(used, find(t, "crontab", `^[0-9*][^ ]*(?: \S+){4} (\S+)`)...)
	used = append(used, find(t, "docker/entrypoint.sh", `^exec (\S+) `)...)
	used = append(used, find(t, "healthcheck.sh", `\b(app|curl) (?:health|-)`)...)
	used = append(used, find(t, "Dockerfile", `^HEALTHCHECK .* CMD \["(\S+)"`)...)
	for _, word := range strings.Fields(find(t, "Dockerfile", `^ENTRYPOINT \[(.*)\]$`)[0]) {
		if name := strings.Trim(word, `",`); name != "--" {
			used = append(used, name)
		}
	}
	for _, name := range used {
		if !slices.Contains(names, name) {
			t.Errorf("%s is called, but the Dockerfile doesn't put it on the PATH", name)
		}
	}
}

func TestSupervisordsSocketAndProgramNamesAgree(t *testing.T) {
	socket := find(t, "supervisord.conf", `^file=(.*)$`)[0]
	same(t, "supervisord's socket", socket, append(find(t, "supervisord.conf", `^serverurl=unix://(.*)$`), find(t, "healthcheck.sh", `--unix-socket (\S+) `)...)...)
	same(t, "the mode of supervisord's socket", "0600", find(t, "supervisord.conf", `^chmod=(.*)$`)...)
	asked := "program:" + find(t, "healthcheck.sh", `getProcessInfo.*<string>(\w+)</string>`)[0]
	if !slices.ContainsFunc(programs(t), func(s section) bool { return s.name == asked }) {
		t.Errorf("healthcheck.sh asks for %s, which supervisord.conf doesn't have", asked)
	}
	for _, folder := range []string{path.Dir(socket), path.Dir(find(t, "supervisord.conf", `^pidfile=(.*)$`)[0]), find(t, "supervisord.conf", `^childlogdir=(.*)$`)[0]} {
		if !slices.Contains(find(t, "docker-compose.yml", `^ +- (/\w+):uid=`), folder) {
			t.Errorf("supervisord writes to %s, which is no tmpfs in docker-compose.yml", folder)
		}
	}
	same(t, "the data folder", find(t, "Dockerfile", `^ENV DATA_DIR=(\S+)`)[0], append(find(t, "Dockerfile", `^VOLUME (\S+)$`), find(t, "docker-compose.yml", `^ +- data:(\S+)$`)...)...)
}

func TestTheExampleHasOnlySettingsThatSomebodyReads(t *testing.T) {
	settings := find(t, "docs/settings.md", "^\\| `([A-Z_]+)` ")
	ours := regexp.MustCompile("`([A-Z]+_)`").FindAllStringSubmatch(find(t, "docs/settings.md", `^(Names that begin with .*)$`)[0], -1)
	elsewhere := read(t, "docker-compose.yml") + read(t, "docker/entrypoint.sh") + read(t, "healthcheck.sh")
	for _, name := range find(t, ".env.example", `^#?([A-Z_]+)=`) {
		if slices.Contains(settings, name) {
			continue
		}
		if !strings.Contains(elsewhere, "${"+name+":-") {
			t.Errorf(".env.example has %s, which nobody reads", name)
		}
		for _, prefix := range ours {
			if strings.HasPrefix(name, prefix[1]) {
				t.Errorf("%s gets into the container by env_file, where the app refuses an unknown name with %s", name, prefix[1])
			}
		}
	}
}

func TestTheBuildGetsWhatItCopies(t *testing.T) {
	allowed := find(t, ".dockerignore", `^!(\S+)$`)
	for _, line := range find(t, "Dockerfile", `^COPY ((?:--chmod=\S+ )?[^-].*)$`) {
		words := strings.Fields(line)
		for _, source := range words[:len(words)-1] {
			if !strings.HasPrefix(source, "--") && !slices.ContainsFunc(allowed, func(a string) bool { return source == a || strings.HasPrefix(source, a+"/") }) {
				t.Errorf(".dockerignore keeps %s out, which the Dockerfile copies", source)
			}
		}
	}
	for _, a := range allowed {
		if _, err := os.Stat(filepath.Join("..", a)); err != nil {
			t.Errorf(".dockerignore lets in %s, which is not there", a)
		}
	}
}

func TestTheImageIsPinnedWhereItCanBe(t *testing.T) {
	bases := find(t, "Dockerfile", `^FROM (\S+)`)
	if want := []string{"${BUILD_IMAGE}", "${BASE_IMAGE}"}; !slices.Equal(bases, want) {
		t.Errorf("want both bases to be build arguments, have %q", bases)
	}
	find(t, "Dockerfile", `^ARG (BUILD_IMAGE|BASE_IMAGE)=\w+:\S+$`)
	find(t, "Dockerfile", `^(HEALTHCHECK) .* CMD `)
	same(t, "STOPSIGNAL", "SIGTERM", find(t, "Dockerfile", `^STOPSIGNAL (.*)$`)...)
	find(t, "docker/supercronic/go.mod", `^\tgithub.com/aptible/supercronic (v[0-9.]+)\b`)
	find(t, "Dockerfile", `(cd docker/supercronic && go build)`)
	if want, have := find(t, "go.mod", `^go (\d+\.\d+)`)[0], find(t, "Dockerfile", `^ARG BUILD_IMAGE=golang:(\d+\.\d+)`)[0]; want != have {
		t.Errorf("go.mod wants Go %s, the Dockerfile builds with %s", want, have)
	}
}

func TestOverlaysNameServicesThatExist(t *testing.T) {
	service := regexp.MustCompile(`(?m)^  (\S+):$`)
	services := func(name string) []string {
		_, list, found := strings.Cut(read(t, name), "\nservices:\n")
		if end := regexp.MustCompile(`(?m)^\S`).FindStringIndex(list); end != nil {
			list = list[:end[0]]
		}
		all := service.FindAllStringSubmatch(list, -1)
		if !found || len(all) == 0 {
			t.Fatalf("%s has no services", name)
		}
		var names []string
		for _, m := range all {
			names = append(names, m[1])
		}
		return names
	}
	base := services("docker-compose.yml")
	overlays, _ := filepath.Glob("compose.*.yml")
	if len(overlays) < 4 {
		t.Fatalf("want the overlays, have %q", overlays)
	}
	for _, o := range overlays {
		names := services("docker/" + o)
		if !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(base, n) }) {
			t.Errorf("%s changes no service of docker-compose.yml, but has %q", o, names)
		}
		for _, n := range names {
			if !slices.Contains(base, n) && !strings.Contains(read(t, "docker/"+o), "\n  "+n+":\n    image: ") {
				t.Errorf("%s has the service %s, which docker-compose.yml lacks and which brings no image", o, n)
			}
		}
	}
}
