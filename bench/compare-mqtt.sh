#!/usr/bin/env bash
# compare-mqtt.sh - Posthouse, mosquitto and a NATS server with MQTT, loaded by
# the same client, one after the other, in one run.
#
#   bench/compare-mqtt.sh [SECONDS per scenario]
#
# Needs mosquitto (Debian: mosquitto) and Go. NATS comes as a Go module. All
# traffic is on loopback; everything it starts ends with it.
#
# Each row is a scenario of `posthouse bench mqtt`. mosquitto and NATS accept
# anybody here, Posthouse checks a password. In the row "queue" Posthouse has
# every message on disk before it acknowledges it; the others have not.
set -euo pipefail
seconds=${1:-5}
. "$(dirname "$0")/lib.sh"
GOBIN=$dir GOFLAGS= go install github.com/nats-io/nats-server/v2@v2.15.2
declare -A at login

p=$(port)
start posthouse "$p" "$dir/posthouse" serve --data "$dir/data" --http "127.0.0.1:$(port)" --mqtt "127.0.0.1:$p" --xmpp "" --link ""
"$dir/posthouse" user add bench --password bench --data "$dir/data" >/dev/null
at[posthouse]=127.0.0.1:$p login[posthouse]="--user bench --password bench"

p=$(port)
printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n' "$p" >"$dir/mosquitto.conf"
start mosquitto "$p" "$(command -v mosquitto || echo /usr/sbin/mosquitto)" -c "$dir/mosquitto.conf"
at[mosquitto]=127.0.0.1:$p

p=$(port)
cat >"$dir/nats.conf" <<E2
server_name: bench
host: 127.0.0.1
port: $(port)
jetstream { store_dir: "$dir/nats" }
mqtt { host: 127.0.0.1, port: $p }
E2
start nats "$p" "$dir/nats-server" -c "$dir/nats.conf"
at[nats]=127.0.0.1:$p

run() { # scenario flags…
  local name
  for name in posthouse mosquitto nats; do
    # shellcheck disable=SC2086
    row "$name" mqtt --target "${at[$name]}" --pid "${pid[$name]}" ${login[$name]:-} "$@"
  done
}
run --scenario idle --connections 15000 # first: what others leave behind shrinks for some time
run --scenario pairs
run --scenario pairs --qos 1
run --scenario fan
run --scenario rate --rate 5000
run --scenario rate --rate 50000
run --scenario queue --qos 1 # last: a store has work to do long after it
