#!/usr/bin/env bash
# Installs what glustervol needs around it, and only what is missing: run it as
# often as you like. For Debian and Ubuntu; elsewhere it names what to install.
#
#   build    what builds it, Go excepted
#   runtime  what a node runs: Gluster, Docker, and the tools of the demo
#   cluster  what hack/cluster takes besides
#   plugin   what builds the managed plugin besides
#   machines what hack/machines takes, and a dockerd for it
#   provision  what the tests of packages and provisioning take, machines included
#   test     all that the tests need, which includes build and runtime
#
# Debian starts the services it installs. That is left to it where systemd runs
# and a node is asked for; tests, and a machine without systemd, get no daemon.
set -euo pipefail

# A daemon's place is often not on a user's PATH.
export PATH="$PATH:/usr/sbin:/sbin"

readonly policy=/usr/sbin/policy-rc.d
readonly usage="usage: hack/install-deps.sh build|runtime|cluster|plugin|machines|provision|test..."

# Each line: how to tell that it is there (a command, a static one, or a file),
# and the package.
readonly build_needs="
make make
git git
/etc/ssl/certs/ca-certificates.crt ca-certificates
"
readonly runtime_needs="
glusterd glusterfs-server
gluster glusterfs-server
glusterfs glusterfs-client
dockerd docker.io
docker docker.io
static:busybox busybox-static
ip iproute2
"
readonly cluster_needs="
iptables iptables
pkill procps
"
readonly plugin_needs="
dockerd docker.io
docker docker.io
debootstrap debootstrap
"
readonly machines_needs="
dockerd docker.io
docker docker.io
debootstrap debootstrap
iptables iptables
"
readonly provision_needs="
rpm rpm
"
readonly test_needs="
docker-compose docker-compose
/usr/share/doc/libfaketime libfaketime
shellcheck shellcheck
gcc gcc
/usr/include/stdlib.h libc6-dev
/usr/include/glusterfs/api/glfs.h libglusterfs-dev
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
/usr/aarch64-linux-gnu/include/stdlib.h libc6-dev-arm64-cross
"

fail() {
    echo "install-deps: $*" >&2
    exit 1
}

is_there() {
    case $1 in
        /*) [[ -e $1 ]] ;;
        static:*) is_there "${1#static:}" && ! ldd "$(command -v "${1#static:}")" &>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

needs_of() {
    case $1 in
        build) echo "$build_needs" ;;
        runtime) echo "$runtime_needs$(apparmor_need)" ;;
        cluster) echo "$cluster_needs" ;;
        plugin) echo "$plugin_needs$(apparmor_need)" ;;
        machines) echo "$machines_needs$(apparmor_need)" ;;
        provision) echo "$machines_needs$(apparmor_need)$provision_needs" ;;
        test) echo "$build_needs$runtime_needs$(apparmor_need)$cluster_needs$plugin_needs$test_needs" ;;
        *) fail "no group '$1'; $usage" ;;
    esac
}

# Where the kernel has AppArmor on, Docker starts no container without its parser.
apparmor_need() {
    if [[ $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) == Y ]]; then
        printf 'apparmor_parser apparmor\n'
    fi
}

# missing prints the packages that the groups need and the machine lacks.
missing() {
    local group needs probe package
    for group in "$@"; do
        needs=$(needs_of "$group") || exit
        while read -r probe package; do
            if [[ -n $probe ]] && ! is_there "$probe"; then
                echo "$package"
            fi
        done <<<"$needs"
    done | sort -u
}

# without_daemons runs a command while packages may start no service. A policy
# that the machine has already stays in charge.
without_daemons() {
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    "$@"
}

# apt asks nothing, keeps the configuration it finds, and waits for another apt.
apt() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@" </dev/null
}

install_packages() {
    apt install --no-install-recommends "$@"
}

check_machine() {
    command -v apt-get >/dev/null ||
        fail "not Debian or Ubuntu: install what your distribution calls these packages: $*"
    ((EUID == 0)) || fail "packages are missing, and only root can install them: $*"
}

main() {
    (($# > 0)) || fail "$usage"
    local list packages
    list=$(missing "$@")
    if [[ -z $list ]]; then
        echo "install-deps: nothing is missing for: $*"
        return
    fi
    mapfile -t packages <<<"$list"
    check_machine "${packages[@]}"
    echo "install-deps: installing ${packages[*]}"
    apt update
    if [[ " $* " == *" test "* || ! -d /run/systemd/system ]]; then
        without_daemons install_packages "${packages[@]}"
    else
        install_packages "${packages[@]}"
    fi
    list=$(missing "$@")
    [[ -z $list ]] || fail "installed, and still missing: ${list//$'\n'/ }"
}

main "$@"
