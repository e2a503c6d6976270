#!/bin/bash
# Tells a check at healthchecks.io, or one that speaks its protocol, how the app is; cron runs this every five minutes.
# Success means that the app says it is well. /fail has the reason. /log says that an operator stopped the app on
# purpose: then nobody is paged, and nobody is told that all is well either.
#
# With the argument backup it makes a backup of the queue, verifies it, and tells another check how that went.
#
#   HC_PING_URL         the check's address, also as HC_PING_URL_FILE or in /run/secrets/hc_ping_url; without one: silence
#   HC_BACKUP_PING_URL  the same for the backup, which is made without one, too
#
# The address is a secret: it is never printed, and never an argument that ps would show.
set -euo pipefail

say() { printf '{"level":"%s","msg":"%s","app":"healthcheck"}\n' "$1" "$2"; }

name=HC_PING_URL
if [ "${1:-}" = backup ]; then name=HC_BACKUP_PING_URL; fi
in_file=${name}_FILE
url=${!name:-} file=${!in_file:-}
if [ -z "$file" ] && [ -e "/run/secrets/${name,,}" ]; then file=/run/secrets/${name,,}; fi
if [ -n "$file" ] && ! url=$(cat "$file" 2>/dev/null); then
  say ERROR "the file with the address to ping can't be read; is it there, and may uid $(id -u) read it?"
  if [ "$name" = HC_PING_URL ]; then exit 1; fi # the backup is made all the same
fi
url=${url//[[:space:]]/}
# What is told goes behind the path, before a query.
query=${url#"${url%%\?*}"} url=${url%%\?*} url=${url%/}

# What supervisord knows of the app, as name=value lines: http://supervisord.org/api.html#supervisor.rpcinterface.SupervisorNamespaceRPCInterface.getProcessInfo
# (the exit code of supervisorctl can't tell a crash from a stop).
process_info() {
  curl -sS -m 5 --unix-socket /run/supervisor.sock http://localhost/RPC2 -H 'Content-Type: text/xml' -d \
    '<?xml version="1.0"?><methodCall><methodName>supervisor.getProcessInfo</methodName><params><param><value><string>app</string></value></param></params></methodCall>' |
    tr -d '\n' | sed -E 's/<\/member>/\n/g' | sed -nE 's/.*<name>([a-zA-Z]+)<\/name><value><[a-z0-9]+>([^<]*)<.*/\1=\2/p'
}

stopped_on_purpose() {
  local info
  info=$(process_info) || return 1
  case $info in
    *statename=STOPP*) return 0 ;;               # STOPPING, STOPPED
    *faultString=SHUTDOWN_STATE*) return 0 ;; # supervisord itself is being stopped
    *statename=EXITED*) grep -qx exitstatus=0 <<<"$info" ;;
    *) return 1 ;;
  esac
}

# ping posts the text $2 to the check, with $1 behind its path; it gives up after five tries. The pauses grow, and
# differ from host to host, so that many of them don't come back to a service in trouble at the same moment.
ping() {
  local try
  [ -n "$url" ] || return 0
  for try in 1 2 3 4 5; do
    if printf 'url = "%s%s%s"\n' "$url" "$1" "$query" | curl -fsS -m 10 -o /dev/null -K - --data-binary "$2" 2>/dev/null; then return 0; fi
    if [ "$try" -lt 5 ]; then sleep "$((try + RANDOM % (2 * try))).$((RANDOM % 10))"; fi
  done
  say WARN "the ping did not arrive"
  return 1
}

if [ "$name" = HC_BACKUP_PING_URL ]; then
  if [ "${QUEUE_URL:-embedded}" != embedded ]; then exit 0; fi # a cluster is backed up by its own tools
  if said=$(app backup 2>&1 && app backup verify 2>&1); then
    printf '%s\n' "$said"
    ping "" "$(hostname): $said"
  else
    printf '%s\n' "$said"
    ping /fail "$(hostname): $said" || true
    exit 1
  fi
elif [ -z "$url" ]; then
  exit 0
elif said=$(app health 2>&1); then
  ping "" "$(hostname): $said"
elif stopped_on_purpose; then
  ping /log "$(hostname): down by operator"
else
  ping /fail "$(hostname): $said"
fi
