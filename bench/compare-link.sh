#!/usr/bin/env bash
# compare-link.sh - Posthouse's long connection and Centrifugo's library, loaded
# by the same client, one after the other, in one run.
#
#   bench/compare-link.sh [SECONDS per scenario]
#
# Needs Go; the library comes as a Go module. All traffic is on loopback;
# everything it starts ends with it.
#
# Posthouse checks a password and has every message on disk before it says so;
# the library lets anybody in and keeps nothing. Rows "link ws" and "centrifuge"
# are both on WebSocket; "link" is on plain TCP.
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
(cd "$root/bench/centrifuge" && go build -o "$dir/centrifuge" .)

port() { # a free one
  python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'
}
wait_for() {
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done
  echo "nothing listens on port $1" >&2; exit 1
}

http=$(port) link=$(port) cf=$(port)
serve() { # a fresh server, so that no scenario pays for what another has stored
  [ -z "${posthouse:-}" ] || { kill "$posthouse"; wait "$posthouse" 2>/dev/null || true; }
  rm -rf "$dir/data"
  "$dir/posthouse" serve --data "$dir/data" --http "127.0.0.1:$http" --link "127.0.0.1:$link" --mqtt "" --xmpp "" >"$dir/posthouse.log" 2>&1 &
  posthouse=$!; pids+=($!)
  wait_for "$link"
  local n; for n in $(seq 0 "${1:-1}"); do "$dir/posthouse" user add "bench$n" --password bench --data "$dir/data" >/dev/null; done
}
centrifuge() { # likewise
  [ -z "${other:-}" ] || { kill "$other"; wait "$other" 2>/dev/null || true; }
  "$dir/centrifuge" -addr "127.0.0.1:$cf" >"$dir/centrifuge.log" 2>&1 &
  other=$!; pids+=($!)
  wait_for "$cf"
}

header=1
row() { # name, flags…
  local name=$1 out; shift
  if ! out=$("$dir/posthouse" bench "$@" --time "${seconds}s" 2>&1); then
    echo "  $name: $out" | head -1
    return
  fi
  if [ -n "$header" ]; then echo "$out" | sed -n 1p | sed 's/^/             /'; header=; fi
  printf '%-13s%s\n' "$name" "$(echo "$out" | sed -n 2p)"
}
run() { # accounts, scenario flags…
  local accounts=$1 me; shift
  for at in "127.0.0.1:$link" "ws://127.0.0.1:$http/link"; do
    serve $((accounts - 1))
    me="link"; [ "${at#ws}" = "$at" ] || me="link ws"
    row "$me" link --target "$at" --pid "$posthouse" --user bench%d --password bench --accounts "$accounts" "$@"
  done
  centrifuge
  row centrifuge centrifuge --target "ws://127.0.0.1:$cf/connection/websocket" --pid "$other" "$@"
}
run 100 --scenario pairs
run 2 --scenario fan --window 1000
run 2 --scenario fan --window 1000 --subscribers 15000
run 100 --scenario rate --rate 5000
run 2 --scenario idle --connections 15000
