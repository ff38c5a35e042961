#!/usr/bin/env bash
# Runs Envoy in its container and stops it without losing requests. On SIGTERM Envoy alone would drop its requests. This
# script first makes Envoy drain (Envoy doc: Draining), then close its listeners, and ends it when only idle connections are
# left. Compose's pre_stop hook would not run on `docker stop` or a reboot. Envoy's image has no curl, so bash speaks HTTP.
#
# usage: run-envoy.sh ENVOY_OPTION...
#        run-envoy.sh drain              makes the running Envoy ask its clients to close their connections, and returns
set -u

# Less than stop_grace_period of docker-compose.yml, after which Docker kills Envoy.
readonly DRAIN_SECONDS_MAX=30
# While Envoy drains, each answer has `connection: close` (--drain-strategy immediate). If Envoy ended sooner, the next request
# on a connection without such an answer would be lost.
readonly DRAIN_SECONDS_MIN=6
readonly TELL_SECONDS=5

admin() { # METHOD PATH: prints Envoy's answer; fails if Envoy does not listen
  { printf '%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$1" "$2" >&3 && timeout 2 cat <&3; } \
    2>/dev/null 3<>/dev/tcp/127.0.0.1/9901
}

none() { admin GET "/stats?filter=^http\.callback\.$1$" | grep -q "$1: 0"; }

# Both take the SECONDS since the drain began, and are true while the script must wait.
telling() { running && [ "$1" -lt "$TELL_SECONDS" ] && ! none downstream_cx_active; }
busy() {
  running || return 1
  # Until the listeners are closed a new connection may arrive, and would be cut off.
  stopped || return 0
  ! none downstream_cx_active && { [ "$1" -lt "$DRAIN_SECONDS_MIN" ] || ! none downstream_rq_active; }
}
running() { kill -0 "$envoy" 2>/dev/null; }
stopped() { admin GET '/stats?filter=^listener_manager\.listener_stopped$' | grep -q 'listener_stopped: [1-9]'; }

stop() {
  trap '' TERM INT
  local began=$SECONDS
  echo 'run-envoy: stopping after the requests in flight are answered' >&2
  # If the admin interface does not answer, Envoy is still starting or hangs, and there is nothing to wait for.
  if admin POST '/drain_listeners?inboundonly&graceful&skip_exit' >/dev/null; then
    while telling $((SECONDS - began)); do sleep 0.2; done
    admin POST '/drain_listeners?inboundonly' >/dev/null
    while [ $((SECONDS - began)) -lt "$DRAIN_SECONDS_MAX" ] && busy $((SECONDS - began)); do sleep 0.2; done
  fi
  kill -TERM "$envoy" 2>/dev/null
  wait "$envoy"
  exit $? # in a trap, `exit` alone has the status of the interrupted command
}

if [ "${1-}" = drain ]; then admin POST '/drain_listeners?inboundonly&graceful&skip_exit' >/dev/null; exit; fi

# The processor or `zonegate render` writes the files that Envoy reads. After a reboot Envoy's container may start first.
trap 'exit 143' TERM INT
for file in envoy.yaml listener.yaml routes.yaml; do
  [ -e "run/$file" ] && continue
  echo "run-envoy: waiting for run/$file, which the processor makes from envoy/$file; if it can't, its log says why" >&2
  until [ -e "run/$file" ]; do sleep 0.5 & wait $!; done
done

trap stop TERM INT
envoy "$@" &
envoy=$!
wait "$envoy"
