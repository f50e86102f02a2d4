#!/usr/bin/env bash
# Installs what glustervol needs around it, and only what is missing: run it as
# often as you like. For Debian and Ubuntu, and on Fedora for what nodes run;
# elsewhere it names what to install. With --missing, it only prints that.
#
#   build    what builds it, Go excepted
#   client   what the driver runs: Gluster's client
#   gluster  what a Gluster server runs
#   docker   Docker
#   runtime  what a node runs: these three, and the tools of the demo
#   cluster  what hack/cluster takes besides
#   plugin   what builds the managed plugin besides
#   machines what hack/machines takes, and a dockerd for it
#   provision  what the tests of packages and provisioning take, machines included
#   bench    what hack/bench takes besides
#   test     all that the tests need, which includes build and runtime
#
# Debian starts the services it installs. That is left to it where systemd runs
# and a node is asked for; tests, and a machine without systemd, get no daemon.
set -euo pipefail

# A daemon's place is often not on a user's PATH.
export PATH="$PATH:/usr/sbin:/sbin"

readonly policy=/usr/sbin/policy-rc.d
readonly usage="usage: hack/install-deps.sh [--missing] build|client|gluster|docker|runtime|cluster|plugin|machines|provision|bench|test..."

# Each line: how to tell that it is there (a command, a static one, a library or a
# file), and the package.
readonly build_needs="
make make
git git
/etc/ssl/certs/ca-certificates.crt ca-certificates
"
readonly client_needs="
glusterfs glusterfs-client
lib:libgfapi.so.0 libgfapi0
"
readonly gluster_needs="
glusterd glusterfs-server
gluster glusterfs-server
"
readonly docker_needs="
dockerd docker.io
docker docker.io
"
readonly demo_needs="
static:busybox busybox-static
ip iproute2
"
readonly cluster_needs="
openssl openssl
iptables iptables
pkill procps
"
readonly plugin_needs="
debootstrap debootstrap
"
readonly machines_needs="
debootstrap debootstrap
iptables iptables
"
readonly provision_needs="
rpm rpm
static:busybox busybox-static
vagrant vagrant
ssh-keygen openssh-client
openssl openssl
"
readonly bench_needs="
fio fio
gnuplot gnuplot-nox
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
# What Fedora calls packages, where it has other names for them.
readonly fedora_names="
glusterfs-client glusterfs-fuse
glusterfs-server glusterfs-server glusterfs-cli
libgfapi0 libgfapi0
docker.io moby-engine docker-cli
"

fail() {
    echo "install-deps: $*" >&2
    exit 1
}

is_there() {
    case $1 in
        /*) [[ -e $1 ]] ;;
        lib:*) [[ $(ldconfig -p) == *"${1#lib:} "* ]] ;;
        static:*) is_there "${1#static:}" && ! ldd "$(command -v "${1#static:}")" &>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

needs_of() {
    case $1 in
        build) echo "$build_needs" ;;
        client) echo "$client_needs" ;;
        gluster) echo "$gluster_needs" ;;
        docker) echo "$docker_needs$(apparmor_need)" ;;
        runtime) echo "$client_needs$gluster_needs$(needs_of docker)$demo_needs" ;;
        cluster) echo "$cluster_needs" ;;
        plugin) echo "$plugin_needs$(needs_of docker)" ;;
        machines) echo "$machines_needs$(needs_of docker)" ;;
        provision) echo "$machines_needs$(needs_of docker)$provision_needs" ;;
        bench) echo "$bench_needs" ;;
        test) echo "$build_needs$(needs_of runtime)$cluster_needs$plugin_needs$bench_needs$machines_needs$test_needs" ;;
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

# system prints which of the systems this is whose packages are known.
system() {
    if command -v apt-get >/dev/null; then
        echo debian
    elif command -v dnf >/dev/null && grep -qx 'ID=fedora' /etc/os-release; then
        echo fedora
    fi
}

# named prints what this system calls the packages, or those that it has no name for.
named() {
    local package
    for package in "$@"; do
        case $(system) in
            fedora) fedora_name "$package" ;;
            *) echo "$package" ;;
        esac
    done | sort -u
}

fedora_name() {
    local line
    line=$(grep "^$1 " <<<"$fedora_names") || fail "no name is known that Fedora has for Debian's package $1"
    tr ' ' '\n' <<<"${line#* }"
}

install_packages() {
    case $(system) in
        debian) apt update && apt install --no-install-recommends "$@" ;;
        fedora) dnf install -q -y --setopt=install_weak_deps=False "$@" ;;
    esac
}

check_machine() {
    [[ -n $(system) ]] ||
        fail "neither Debian nor Ubuntu, nor Fedora: install what your distribution calls these packages: $*"
    ((EUID == 0)) || fail "packages are missing, and only root can install them: $*"
}

main() {
    local list packages print=''
    [[ ${1-} != --missing ]] || { print=yes && shift; }
    (($# > 0)) || fail "$usage"
    list=$(missing "$@")
    if [[ -n $print ]]; then
        [[ -z $list ]] || echo "$list"
        return
    fi
    if [[ -z $list ]]; then
        echo "install-deps: nothing is missing for: $*"
        return
    fi
    mapfile -t packages <<<"$list"
    check_machine "${packages[@]}"
    list=$(named "${packages[@]}")
    mapfile -t packages <<<"$list"
    echo "install-deps: installing ${packages[*]}"
    if [[ " $* " == *" test "* || ! -d /run/systemd/system ]]; then
        without_daemons install_packages "${packages[@]}"
    else
        install_packages "${packages[@]}"
    fi
    list=$(missing "$@")
    [[ -z $list ]] || fail "installed, and still missing: ${list//$'\n'/ }"
}

main "$@"
