#!/usr/bin/env bash
# Shows glustervol on this machine, and takes the show away again:
#
#   hack/demo.sh up      installs Gluster and Docker if they are missing, makes a
#                        Gluster volume of one brick, starts the driver, and has
#                        containers write, read, lose and get back a volume
#   hack/demo.sh clean   takes away all that 'up' made
#
# A glusterd or dockerd that runs already is used, and left as it is. One that
# 'up' has to start is a child of the demo and ends with it. Everything that the
# demo makes is below $state, but for the driver's sockets and mounts in /run.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin"

readonly state=/var/lib/glustervol-demo
readonly gluster_volume=glustervol-demo
readonly image=glustervol-demo
readonly writer=glustervol-demo-writer
readonly volume=demo
# Gluster takes no brick on 127.0.0.1. This address is for documentation (RFC
# 5737): no network has it, and on the loopback device nothing of it gets out.
readonly address=198.51.100.77
readonly glustervol=bin/glustervol
readonly patience=60 # seconds for a daemon to come up or to end

main() {
    ((EUID == 0)) || fail "it mounts file systems and starts daemons; run it with sudo"
    case "${1-}" in
        up) up ;;
        clean) clean ;;
        *) fail "usage: hack/demo.sh up|clean" ;;
    esac
}

fail() {
    echo "demo: $*" >&2
    exit 1
}

say() {
    if [[ -t 1 ]]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}

# show prints a command and runs it.
show() {
    printf '$ %s\n' "$*"
    "$@"
}

up() {
    hack/install-deps.sh runtime
    refuse_other_driver
    mkdir -p "$state"
    start_glusterd
    make_gluster_volume
    start_dockerd
    make_image
    start_driver
    perform
    tell_what_next
}

refuse_other_driver() {
    [[ -S /run/glustervol/admin.sock ]] || return 0
    running driver || ! "$glustervol" info >/dev/null 2>&1 ||
        fail "a glustervol driver runs on this machine already: you do not need the demo; try 'docker volume create -d glustervol web'"
}

# --- daemons that the demo started, by their pid files ---

# running looks for more than a process id, which another may have by now, or a
# zombie: each daemon has the demo's directory in its arguments.
running() {
    local pid
    [[ -d $state ]] || return 1
    [[ $1 != driver || ! -d /run/systemd/system ]] || driver_pid
    pid=$(cat "$state/$1.pid" 2>/dev/null) && [[ -n $pid ]] || return 1
    grep -qF "$state" "/proc/$pid/cmdline" 2>/dev/null
}

# driver_pid notes which process systemd has for the driver: it starts another
# one when that ends.
driver_pid() {
    systemctl show --property=MainPID --value glustervol-demo.service >"$state/driver.pid"
}

# start runs a daemon in the background, in a session of its own.
start() {
    local name=$1
    shift
    echo "starting $name"
    setsid "$@" >>"$state/$name.log" 2>&1 </dev/null &
    echo $! >"$state/$name.pid"
}

# await repeats a command until it succeeds.
await() {
    local what=$1 end=$((SECONDS + patience))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "$what does not come up; its log is in $state"
        sleep 0.1
    done
}

stop() {
    local name=$1 end=$((SECONDS + patience))
    running "$name" || return 0
    echo "stopping $name"
    kill "$(cat "$state/$name.pid")"
    while running "$name"; do
        ((SECONDS < end)) || fail "$name does not end; its log is $state/$name.log"
        sleep 0.1
    done
}

# --- Gluster ---

start_glusterd() {
    if gluster volume list >/dev/null 2>&1; then
        return
    fi
    mkdir -p "$state/glusterd"
    sed "s|option working-directory .*|option working-directory $state/glusterd|" \
        /etc/glusterfs/glusterd.vol >"$state/glusterd.vol"
    start glusterd glusterd --no-daemon --volfile="$state/glusterd.vol" --log-file="$state/glusterd.log"
    await glusterd gluster volume list
}

make_gluster_volume() {
    if gluster volume info "$gluster_volume" >/dev/null 2>&1; then
        ip addr replace "$address/32" dev lo
        gluster volume status "$gluster_volume" >/dev/null 2>&1 || gluster --mode=script volume start "$gluster_volume"
        return
    fi
    (($(gluster pool list | wc -l) <= 2)) ||
        fail "this machine is in a Gluster pool, whose other servers the demo leaves alone; use a volume of yours: glustervol serve $(hostname):/VOLUME"
    ip addr replace "$address/32" dev lo
    rm -rf "$state/brick" # of an earlier demo whose volume is gone
    gluster --mode=script volume create "$gluster_volume" "$address:$state/brick" force
    gluster --mode=script volume start "$gluster_volume"
}

# --- Docker ---

start_dockerd() {
    if docker version >/dev/null 2>&1; then
        return
    fi
    echo "This Docker is the demo's own. It has no network: nothing of the machine's is changed."
    start dockerd dockerd --data-root="$state/docker" --exec-root=/run/glustervol-demo-docker \
        --pidfile="$state/dockerd-own.pid" --bridge=none --iptables=false --ip-forward=false
    await dockerd docker version
}

make_image() {
    docker image inspect "$image" >/dev/null 2>&1 && return
    local root=$state/image
    mkdir -p "$root/bin"
    cp "$(command -v busybox)" "$root/bin/busybox"
    chroot "$root" /bin/busybox --install -s /bin
    tar -C "$root" -c . | docker import --change 'CMD ["/bin/sh"]' --change 'ENV PATH=/bin' - "$image" >/dev/null
    rm -rf "$root"
}

# --- the driver ---

start_driver() {
    running driver && return
    if [[ -d /run/systemd/system ]]; then
        systemctl reset-failed glustervol-demo.service 2>/dev/null || true
        systemd-run --quiet --unit=glustervol-demo --property=KillMode=process --property=Restart=always \
            "$PWD/$glustervol" serve --state-dir="$state/driver" --log-dir="$state/log" "$address:/$gluster_volume"
        await "the driver" "$glustervol" info
        driver_pid
        return
    fi
    start driver "$glustervol" serve --state-dir="$state/driver" --log-dir="$state/log" "$address:/$gluster_volume"
    await "the driver" "$glustervol" info
}

stop_driver() {
    if [[ -d /run/systemd/system ]]; then
        systemctl stop glustervol-demo.service 2>/dev/null || true
    fi
    stop driver
    # A driver that was killed has left its clients for the next one.
    unmount_below /run/glustervol/
}

unmount_below() {
    local mount
    mounts "$1" | sort -r | while read -r mount; do
        umount "$mount"
    done
}

# mounts prints the mount points below a directory.
mounts() {
    awk -v dir="$1" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo
}

# --- the show ---

perform() {
    say "The driver, and the way it reaches the Gluster volume"
    show "$glustervol" info

    say "A volume, for user 999 alone"
    show docker volume create -d glustervol -o uid=999 -o gid=999 -o mode=0750 "$volume"

    say "One container writes"
    docker rm -f "$writer" >/dev/null 2>&1 || true
    show docker run -d --name "$writer" --user 999 -v "$volume:/data" "$image" \
        sh -c 'while date >>/data/log; do sleep 0.1; done'

    say "Another reads what it writes"
    # shellcheck disable=SC2016 # $(...) is for the container's shell
    show docker run --rm --user 999 -v "$volume:/data" "$image" \
        sh -c 'until [ -s /data/log ]; do sleep 0.1; done; echo "$(wc -l </data/log) lines so far"'
    show docker volume inspect "$volume"

    say "Removed, it waits in the trash"
    show docker rm -f "$writer"
    show docker volume rm "$volume"
    show "$glustervol" trash ls

    say "And comes back whole"
    show "$glustervol" trash restore "$volume"
    show docker run --rm --user 999 -v "$volume:/data" --volume-driver glustervol "$image" tail -n 1 /data/log
    show "$glustervol" inspect "$volume"
}

tell_what_next() {
    cat <<TXT

The driver goes on running. Try:
  docker run -it --rm -v web:/data --volume-driver glustervol $image
  docker volume ls
  sudo $glustervol info
  sudo kill -9 \$(cat $state/driver.pid) # containers do not notice; 'sudo make demo' starts it again

Take all of it away: sudo make demo-clean
TXT
}

# --- the end of it ---

clean() {
    if [[ ! -e $state ]]; then
        echo "demo: there is nothing to take away"
        return
    fi
    remove_containers
    stop_driver
    stop dockerd
    unmount_below "$state/docker" # it leaves its root as a mount of its own
    remove_gluster_volume
    stop glusterd
    remove_files
    echo "demo: nothing of it is left"
}

# remove_containers also removes what a person made with the demo's driver.
remove_containers() {
    docker version >/dev/null 2>&1 || return 0
    local name containers
    docker rm -f "$writer" >/dev/null 2>&1 || true
    if running driver; then
        for name in $(docker volume ls -q --filter driver=glustervol); do
            mapfile -t containers < <(docker ps -aq --filter "volume=$name")
            ((${#containers[@]} == 0)) || docker rm -f "${containers[@]}" >/dev/null
            docker volume rm "$name" >/dev/null
        done
    fi
    mapfile -t containers < <(docker ps -aq --filter "ancestor=$image")
    ((${#containers[@]} == 0)) || docker rm -f "${containers[@]}" >/dev/null
    docker image rm -f "$image" >/dev/null 2>&1 || true
}

remove_gluster_volume() {
    if gluster volume info "$gluster_volume" >/dev/null 2>&1; then
        gluster --mode=script volume stop "$gluster_volume" force >/dev/null || true
        gluster --mode=script volume delete "$gluster_volume" >/dev/null
    fi
    ip addr del "$address/32" dev lo 2>/dev/null || true
}

remove_files() {
    local left
    left=$(mounts "$state/"; mounts /run/glustervol)
    [[ -z $left ]] || fail "still mounted, so nothing is removed: $left"
    rm -rf "$state" /run/glustervol-demo-docker /run/glustervol
    rmdir /run/docker/plugins /run/docker 2>/dev/null || true
}

main "$@"
