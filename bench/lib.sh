# lib.sh - what the comparisons share: to be sourced. It makes $dir, builds
# posthouse into it, and ends with the script all processes that start has begun.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=$(mktemp -d)
declare -A pid
pids=()
finish() {
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT

ulimit -n "$(ulimit -Hn)"
(cd "$root" && go build -o "$dir/posthouse" ./cmd/posthouse)

port() { # a free one
  python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'
}
wait_for() { # a port
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done
  echo "nothing listens on port $1" >&2; exit 1
}
stop() { # name, if it runs: returns when it has ended
  [ -z "${pid[$1]:-}" ] || { kill "${pid[$1]}"; wait "${pid[$1]}" 2>/dev/null || true; }
  unset "pid[$1]"
}
start() { # name, port, command…: instead of the one of that name that runs
  local name=$1 at=$2; shift 2
  stop "$name"
  "$@" >"$dir/$name.log" 2>&1 &
  pid[$name]=$!; pids+=($!)
  wait_for "$at"
}
header=1
row() { # name, flags of posthouse bench…: a line of the table
  local name=$1 out; shift
  if ! out=$("$dir/posthouse" bench "$@" --time "${seconds}s" 2>&1); then
    echo "  $name: $out" | head -1
    return
  fi
  # The first column is an address of this run.
  if [ -n "$header" ]; then echo "$out" | sed -n '1s/^ *target/            /p'; header=; fi
  printf '%-12s%s\n' "$name" "$(echo "$out" | sed -n '2s/^ *[^ ]*//p')"
}
