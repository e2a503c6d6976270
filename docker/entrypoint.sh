#!/bin/bash
# The container's start, run by tini: waits for what the app depends on, then becomes supervisord.
#
#   WAIT_FOR          host:port of each dependency, separated by spaces or commas; nothing by default
#   WAIT_FOR_TIMEOUT  seconds for all of them together, 60 by default; then the container ends with 69
set -euo pipefail

say() { printf '{"level":"%s","msg":"%s","app":"entrypoint"}\n' "$1" "$2"; }

# shellcheck disable=SC2016 # the inner shell expands them
reach() { timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null; }

wait_for=${WAIT_FOR:-} timeout=${WAIT_FOR_TIMEOUT:-60}
read -rd '' -a targets <<<"${wait_for//,/ }" || true # it ends with the text, lines and all
for target in "${targets[@]}"; do
  if [[ ! $target =~ ^[A-Za-z0-9.:_-]+:[0-9]+$ ]]; then
    say ERROR "WAIT_FOR has an entry that is not host:port"
    exit 78
  fi
done
if [[ ! $timeout =~ ^[0-9]{1,6}$ ]]; then
  say ERROR "WAIT_FOR_TIMEOUT is not a whole number of seconds"
  exit 78
fi

deadline=$((SECONDS + 10#$timeout))
for target in "${targets[@]}"; do
  until reach "${target%:*}" "${target##*:}"; do
    if ((SECONDS >= deadline)); then
      say ERROR "$target did not answer within $timeout s; is it up, and does WAIT_FOR name it right?"
      exit 69
    fi
    sleep 0.5
  done
  say INFO "$target answers"
done

exec supervisord -c /etc/supervisord.conf
