#!/usr/bin/env bash
# Runs Envoy in its container and ends it gently: on SIGTERM alone Envoy drops the requests it has. Here it is told to
# drain first (Envoy doc: Draining), and ended when the last request is answered. A script, and not Compose's pre_stop
# hook, so that `docker stop` and a reboot do the same. Envoy's image has no curl: bash speaks HTTP itself.
#
# usage: run-envoy.sh ENVOY_OPTION...    --drain-time-s: how long new connections are still accepted meanwhile
set -u

# Below stop_grace_period of docker-compose.yml, after which Docker kills.
readonly DRAIN_SECONDS_MAX=30
readonly ACTIVE_REQUESTS='/stats?filter=^http\.callback\.downstream_rq_active$'

admin() { # METHOD PATH: prints Envoy's answer, or fails where nobody listens
  { printf '%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$1" "$2" >&3 && timeout 2 cat <&3; } \
    2>/dev/null 3<>/dev/tcp/127.0.0.1/9901
}

busy() { kill -0 "$envoy" 2>/dev/null && ! admin GET "$ACTIVE_REQUESTS" | grep -q 'downstream_rq_active: 0'; }

stop() {
  trap '' TERM INT
  local deadline=$((SECONDS + DRAIN_SECONDS_MAX))
  echo 'run-envoy: stopping: requests in flight are answered first' >&2
  # An Envoy whose admin interface doesn't answer is still starting, or hangs: nothing to wait for.
  if admin POST '/drain_listeners?graceful&skip_exit' >/dev/null; then
    while [ "$SECONDS" -lt "$deadline" ] && busy; do sleep 0.2; done
  fi
  kill -TERM "$envoy" 2>/dev/null
  wait "$envoy"
  exit $? # a bare `exit` in a trap has the status of what the signal interrupted
}

trap stop TERM INT
envoy "$@" &
envoy=$!
wait "$envoy"
