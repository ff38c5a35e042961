#!/usr/bin/env bash
# Runs Envoy in its container and ends it gently: on SIGTERM alone Envoy drops the requests it has. Here it is told to
# drain first (Envoy doc: Draining), then to close its listeners, and ended when no connection is left, or none but idle
# ones. A script, and not Compose's pre_stop hook, so that `docker stop` and a reboot do the same. Envoy's image has no
# curl: bash speaks HTTP itself.
#
# usage: run-envoy.sh ENVOY_OPTION...
#        run-envoy.sh drain              has the Envoy that runs here tell its clients to close their connections, and go on
set -u

# Below stop_grace_period of docker-compose.yml, after which Docker kills.
readonly DRAIN_SECONDS_MAX=30
# While Envoy drains, each answer says `connection: close` (--drain-strategy immediate). Ended sooner, the next request on a
# connection that was not told is lost.
readonly DRAIN_SECONDS_MIN=6
readonly TELL_SECONDS=5

admin() { # METHOD PATH: prints Envoy's answer, or fails where nobody listens
  { printf '%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$1" "$2" >&3 && timeout 2 cat <&3; } \
    2>/dev/null 3<>/dev/tcp/127.0.0.1/9901
}

none() { admin GET "/stats?filter=^http\.callback\.$1$" | grep -q "$1: 0"; }

# Each: true while Envoy, SECONDS after the drain began, is to be waited for.
telling() { running && [ "$1" -lt "$TELL_SECONDS" ] && ! none downstream_cx_active; }
busy() {
  running || return 1
  # A connection may still come: ended now, it would be cut off.
  stopped || return 0
  ! none downstream_cx_active && { [ "$1" -lt "$DRAIN_SECONDS_MIN" ] || ! none downstream_rq_active; }
}
running() { kill -0 "$envoy" 2>/dev/null; }
stopped() { admin GET '/stats?filter=^listener_manager\.listener_stopped$' | grep -q 'listener_stopped: [1-9]'; }

stop() {
  trap '' TERM INT
  local began=$SECONDS
  echo 'run-envoy: stopping: requests in flight are answered first' >&2
  # An Envoy whose admin interface doesn't answer is still starting, or hangs: nothing to wait for.
  if admin POST '/drain_listeners?inboundonly&graceful&skip_exit' >/dev/null; then
    while telling $((SECONDS - began)); do sleep 0.2; done
    admin POST '/drain_listeners?inboundonly' >/dev/null
    while [ $((SECONDS - began)) -lt "$DRAIN_SECONDS_MAX" ] && busy $((SECONDS - began)); do sleep 0.2; done
  fi
  kill -TERM "$envoy" 2>/dev/null
  wait "$envoy"
  exit $? # a bare `exit` in a trap has the status of what the signal interrupted
}

if [ "${1-}" = drain ]; then admin POST '/drain_listeners?inboundonly&graceful&skip_exit' >/dev/null; exit; fi

# What Envoy reads is made of the operator's files, by the processor or by `zonegate render`: after a reboot either may start first.
trap 'exit 143' TERM INT
for file in envoy.yaml listener.yaml routes.yaml; do
  [ -e "run/$file" ] && continue
  echo "run-envoy: waiting for run/$file; the processor makes it of envoy/$file, and its log says why where it can't" >&2
  until [ -e "run/$file" ]; do sleep 0.5 & wait $!; done
done

trap stop TERM INT
envoy "$@" &
envoy=$!
wait "$envoy"
