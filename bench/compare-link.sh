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
# are both on WebSocket; "link" is on plain TCP. Last comes what an idle
# connection costs over TLS, WebSocket over TLS, and QUIC.
set -euo pipefail
seconds=${1:-5}
. "$(dirname "$0")/lib.sh"
(cd "$root/bench/centrifuge" && go build -o "$dir/centrifuge" .)

http=$(port) https=$(port) link=$(port) links=$(port) quic=$(port) other=$(port)
servers() { # accounts: fresh ones, so that no scenario pays for another's
  stop posthouse # before its data goes
  rm -rf "$dir/data"
  start posthouse "$link" "$dir/posthouse" serve --data "$dir/data" --mqtt "" --xmpp "" \
    --http "127.0.0.1:$http" --https "127.0.0.1:$https" --link "127.0.0.1:$link" --links "127.0.0.1:$links" --link-quic "127.0.0.1:$quic"
  local n
  for n in $(seq 0 $(($1 - 1))); do "$dir/posthouse" user add "bench$n" --password bench --data "$dir/data" >/dev/null; done
  start centrifuge "$other" "$dir/centrifuge" -addr "127.0.0.1:$other"
}
run() { # accounts, scenario flags…
  local accounts=$1; shift
  local login=(--user bench%d --password bench --accounts "$accounts")
  servers "$accounts"
  row "link" link --target "127.0.0.1:$link" --pid "${pid[posthouse]}" "${login[@]}" "$@"
  servers "$accounts"
  row "link ws" link --target "ws://127.0.0.1:$http/link" --pid "${pid[posthouse]}" "${login[@]}" "$@"
  row "centrifuge" centrifuge --target "ws://127.0.0.1:$other/connection/websocket" --pid "${pid[centrifuge]}" "$@"
}
run 100 --scenario pairs
run 2 --scenario fan --window 500 # with more the library cuts its readers off
run 2 --scenario fan --window 200 --subscribers 15000 # 1000 in flight to each would be 1 GB in sockets
run 100 --scenario rate --rate 5000
run 2 --scenario idle --connections 15000

idle() { # name, target, connections: the other carriers
  servers 2
  row "$1" link --target "$2" --pid "${pid[posthouse]}" --user bench%d --password bench --accounts 2 --scenario idle --connections "$3"
}
idle "link tls" "tls://127.0.0.1:$links" 15000
idle "link wss" "wss://127.0.0.1:$https/link" 15000
idle "link quic" "quic://127.0.0.1:$quic" 5000
