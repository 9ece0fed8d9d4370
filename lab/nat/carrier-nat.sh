#!/usr/bin/env bash
# A carrier's NAT on one Linux machine, out of network namespaces:
#
#   P-cli1..n  ── veth ──  P-nat  ── veth ──  P-srv
#   100.64.i.2    100.64.i.1 │ 192.0.2.1, .2    192.0.2.80
#
# The kernel's connection tracking translates, and really forgets a mapping
# that was idle. Everything is inside the namespaces; none has a way out.
#
#   check              exit status 0: works here; 77: it does not, and why
#   up, down           build it, remove it
#   tcp N              an established mapping is forgotten after N idle seconds
#   udp N              and one of UDP
#   mode M             what becomes of a segment whose mapping is gone:
#                      silent      it vanishes, from either side
#                      rst-client  the client's is answered with a reset
#                      rst-server  the server's is answered with a reset
#   rebind             forget all mappings, go on from the other public address
#   loss PERCENT       of all packets, at random
#   outage on|off      nothing gets through
#   move I             client I leaves its link and address for its second ones,
#                      or back
#   counters           packets and bytes from and to the clients
#   exec NS COMMAND…   run in the namespace cli1, nat or srv
#
# Environment: P, the name of the lab (several may be up); for up also CLIENTS
# (1), TCP_IDLE (30), MODE (silent), and AIR: then the clients' links are TUN
# devices, which whoever wants to be the radio opens, eth0 and in nat lanI.
set -euo pipefail
P=${P:-cnat}
NAT=$P-nat SRV=$P-srv
PUBLIC=/run/carrier-nat/$P # the public address in use

in_nat() { ip netns exec "$NAT" "$@"; }
rules() { in_nat nft -f -; }

# Each thing that is needed is tried.
check() {
    local ns=$P-check-$$ why='' tool
    for tool in ip nft conntrack ethtool; do
        command -v "$tool" >/dev/null || { echo "no $tool(8)"; return 77; }
    done
    ip netns add "$ns" 2>/dev/null || { echo "network namespaces cannot be made here"; return 77; }
    if ! ip -n "$ns" link add v0 type veth peer name v1 2>/dev/null; then
        why="virtual Ethernet cannot be made here"
    elif ! ip netns exec "$ns" nft 'add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; add rule ip t c oifname "v0" masquerade' 2>/dev/null; then
        why="no NAT in this kernel"
    elif ! ip netns exec "$ns" sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=7 net.netfilter.nf_conntrack_tcp_loose=0 2>/dev/null; then
        why="connection tracking cannot be set"
    elif ! ip netns exec "$ns" conntrack -L >/dev/null 2>&1; then
        why="connection tracking cannot be read"
    fi
    ip netns del "$ns"
    [ -z "$why" ] || { echo "$why"; return 77; }
}

# A captured packet is to be one on the wire, and there is only IPv4.
plain() { # namespace, device
    ip netns exec "$1" ethtool -K "$2" tso off gso off gro off >/dev/null 2>&1 || true
    ip netns exec "$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 2>/dev/null || true
}

# A link of client I with the network 100.64.N.0.
reach() { # I, N, device
    local c=$P-cli$1 lan=lan$2
    if [ -n "${AIR:-}" ]; then
        ip -n "$c" tuntap add dev "$3" mode tun
        ip -n "$NAT" tuntap add dev "$lan" mode tun
    else
        ip link add "$lan" netns "$NAT" type veth peer name "$3" netns "$c"
    fi
    ip -n "$c" addr add "100.64.$2.2/24" dev "$3"
    ip -n "$NAT" addr add "100.64.$2.1/24" dev "$lan"
    ip -n "$c" link set "$3" up
    ip -n "$NAT" link set "$lan" up
    ip -n "$c" route replace 192.0.2.0/24 via "100.64.$2.1" dev "$3"
    plain "$NAT" "$lan"
    plain "$c" "$3"
}

up() {
    local i c
    ip netns add "$NAT"
    ip netns add "$SRV"
    ip link add wan netns "$NAT" type veth peer name eth0 netns "$SRV"
    ip -n "$NAT" addr add 192.0.2.1/24 dev wan
    ip -n "$NAT" addr add 192.0.2.2/24 dev wan
    ip -n "$SRV" addr add 192.0.2.80/24 dev eth0
    for i in lo wan; do ip -n "$NAT" link set "$i" up; done
    for i in lo eth0; do ip -n "$SRV" link set "$i" up; done
    plain "$NAT" wan
    plain "$SRV" eth0
    for i in $(seq 1 "${CLIENTS:-1}"); do
        c=$P-cli$i
        ip netns add "$c"
        ip -n "$c" link set lo up
        reach "$i" "$i" eth0
        reach "$i" "$((100 + i))" eth1
        move "$i" # away from eth1, which was added last
    done
    rules <<'E'
table ip cnat {
  counter sent {}
  counter received {}
  chain late_up {}
  chain late_down {}
  chain air {}
  chain first { type filter hook prerouting priority -350; policy accept;
    iifname "lan*" counter name sent
    iifname "wan" counter name received
    jump air
  }
  chain through { type filter hook forward priority 0; policy drop;
    iifname "lan*" ct state invalid goto late_up
    iifname "lan*" oifname "wan" accept
    iifname "wan" ct state established,related accept
    iifname "wan" goto late_down
  }
  chain own { type filter hook input priority 0; policy drop;
    iifname "lo" accept
    meta l4proto icmp accept
    iifname "wan" goto late_down
  }
  chain post { type nat hook postrouting priority 100; }
}
E
    # The table has brought connection tracking into the namespace. Strict, so
    # that a segment in the middle of a connection makes no new mapping.
    in_nat sysctl -qw net.ipv4.ip_forward=1 net.netfilter.nf_conntrack_tcp_loose=0 net.netfilter.nf_conntrack_tcp_be_liberal=0
    tcp "${TCP_IDLE:-30}"
    mode "${MODE:-silent}"
    from 192.0.2.1
}

move() { # I
    local c=$P-cli$1 to=eth0 from=eth1 via=100.64.$1.1
    if ip -n "$c" route show 192.0.2.0/24 | grep -q eth0; then to=eth1 from=eth0 via=100.64.$((100 + $1)).1; fi
    ip -n "$c" link set "$from" down
    ip -n "$c" link set "$to" up
    ip -n "$c" route replace 192.0.2.0/24 via "$via" dev "$to"
}

down() {
    local ns
    for ns in $(ip netns list | awk '{print $1}' | grep -E "^$P-(nat|srv|cli[0-9]+)$" || true); do
        ip netns del "$ns"
    done
    rm -f "$PUBLIC"
}

tcp() { in_nat sysctl -qw "net.netfilter.nf_conntrack_tcp_timeout_established=$1"; }
udp() { in_nat sysctl -qw "net.netfilter.nf_conntrack_udp_timeout=$1" "net.netfilter.nf_conntrack_udp_timeout_stream=$1"; }

mode() {
    local up=drop down=drop reset='meta l4proto tcp reject with tcp reset'
    case $1 in
        silent) ;;
        rst-client) up=$reset ;;
        rst-server) down=$reset ;;
        *) echo "no mode $1" >&2; return 2 ;;
    esac
    rules <<E
flush chain ip cnat late_up
flush chain ip cnat late_down
add rule ip cnat late_up $up
add rule ip cnat late_up drop
add rule ip cnat late_down $down
add rule ip cnat late_down drop
E
}

from() { # public address
    rules <<E
flush chain ip cnat post
add rule ip cnat post oifname "wan" snat to $1
E
    mkdir -p "$(dirname "$PUBLIC")"
    echo "$1" >"$PUBLIC"
}

rebind() {
    if [ "$(cat "$PUBLIC")" = 192.0.2.1 ]; then from 192.0.2.2; else from 192.0.2.1; fi
    in_nat conntrack -F 2>/dev/null
}

air() { # a rule for every packet, or nothing
    printf 'flush chain ip cnat air\n%s\n' "${1:+add rule ip cnat air $1}" | rules
}

loss() { if [ "$1" = 0 ]; then air; else air "numgen random mod 1000 < $(($1 * 10)) drop"; fi; }
outage() { if [ "$1" = on ]; then air drop; else air; fi; }
counters() { in_nat nft list counters table ip cnat | awk '/counter/ {c = $2} /packets/ {print c, $2, $4}'; }

verb=${1:-}
shift || true
case $verb in
    check | up | down | tcp | udp | mode | rebind | loss | outage | move | counters) "$verb" "$@" ;;
    exec)
        ns=$1
        shift
        exec ip netns exec "$P-$ns" "$@"
        ;;
    *) sed -n '2,34p' "$0" >&2; exit 2 ;;
esac
