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
root=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
pids=()
finish() {
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT

ulimit -n "$(ulimit -Hn)"
(cd "$root" && go build -o "$dir/posthouse" ./cmd/posthouse)
GOBIN=$dir GOFLAGS= go install github.com/nats-io/nats-server/v2@v2.15.2

port() { # a free one
  python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'
}
wait_for() {
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done
  echo "nothing listens on port $1" >&2; exit 1
}
declare -A at pid login
start() { # name, command…: its MQTT port is in $p
  local name=$1; shift
  "$@" >"$dir/$name.log" 2>&1 &
  pid[$name]=$!; pids+=($!); at[$name]=127.0.0.1:$p
  wait_for "$p"
}

p=$(port)
start posthouse "$dir/posthouse" serve --data "$dir/data" --http "127.0.0.1:$(port)" --mqtt "127.0.0.1:$p" --xmpp "" --link ""
"$dir/posthouse" user add bench --password bench --data "$dir/data" >/dev/null
login[posthouse]="--user bench --password bench"

p=$(port)
printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n' "$p" >"$dir/mosquitto.conf"
start mosquitto "$(command -v mosquitto || echo /usr/sbin/mosquitto)" -c "$dir/mosquitto.conf"

p=$(port)
cat >"$dir/nats.conf" <<E2
server_name: bench
host: 127.0.0.1
port: $(port)
jetstream { store_dir: "$dir/nats" }
mqtt { host: 127.0.0.1, port: $p }
E2
start nats "$dir/nats-server" -c "$dir/nats.conf"

header=1
run() { # scenario flags…
  for name in posthouse mosquitto nats; do
    local out
    if ! out=$("$dir/posthouse" bench mqtt --target "${at[$name]}" --pid "${pid[$name]}" --time "${seconds}s" ${login[$name]:-} "$@" 2>&1); then
      echo "  $name: $out" | head -1
      continue
    fi
    if [ -n "$header" ]; then echo "$out" | sed -n 1p | sed 's/^/                /'; header=; fi
    printf '%-16s%s\n' "$name" "$(echo "$out" | sed -n 2p)"
  done
}
run --scenario pairs
run --scenario pairs --qos 1
run --scenario fan
run --scenario queue --qos 1
run --scenario rate --rate 5000
run --scenario rate --rate 50000
run --scenario idle --connections 15000
