# Sourced by start, stop and crash-node.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${MCLR_CLUSTER_STATE:-/tmp/mclr-cluster}
marker="# written by mclr workflow/cluster/start"
nodes=(node1 node2)
configuration=(slurm.conf gres.conf cgroup.conf slurmdbd.conf)

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# ours FILE: did `start` write it?
ours() { grep -qs "^$marker\$" "$1"; }

# running NAME [COMM]: is the process recorded in NAME.pid alive, and what it was?
running() {
    local pid
    pid=$(cat "$state/run/$1.pid" 2>/dev/null) || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${2:-$1}" ] &&
        ! grep -q '^State:.*Z' "/proc/$pid/status"
}

# await SECONDS WHAT COMMAND...: poll until COMMAND succeeds.
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || die "timed out waiting for $what; see $state/log"
        sleep 0.1
    done
}
