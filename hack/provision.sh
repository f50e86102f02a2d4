#!/usr/bin/env bash
# Turns a bare machine into a node of a cluster: a Gluster server with a brick, Docker,
# the driver, a member of a Swarm, or what of these it is told. Run it as root, with the
# same arguments, on every machine, in any order and as often as you like: it changes
# what is missing and nothing else, and whoever comes last completes what is to be done
# once. What it cannot do yet it waits for, and says so.
#
#   hack/provision.sh ROLE... [OPTION...]
#   hack/provision.sh --remove driver
#
# Roles:
#   --gluster          a Gluster server: its brick, the pool of servers, and the volume
#   --docker           Docker
#   --driver [FILE]    glustervol, from a package or a binary; default: bin/glustervol
#                      of this checkout
#   --swarm            a member of a Swarm; the first peer makes it
#
# Options:
#   --peers A,B,C      all Gluster servers, by names that each of them can resolve
#   --volume NAME      the Gluster volume (gv0)
#   --brick DIR        where each server has its brick (/srv/gluster/VOLUME)
#   --replica N        copies of each file (as many as peers, but not more than 3)
#   --arbiter          every third copy has names alone, which is enough for a quorum
#   --force-brick      take a brick on the root file system, on a mount point itself, or
#                      with less than 1 GiB free
#   --store ADDRESS    the driver's stores (PEERS:/VOLUME)
#   --tls DIR          have Gluster's servers and clients speak TLS, by DIR/ca.pem, and
#                      DIR/NAME.pem and DIR/NAME.key of this machine: hack/tls-ca makes them
#   --swarm-token FILE for machines that are no Gluster server: what 'docker swarm
#                      join-token worker' has printed on a manager
#   --wait SECONDS     wait as long for other machines, and fail if that is not enough
#
# It never formats a disk, never deletes data, and opens no firewall. 0: done, or
# waiting; 1: something is wrong, and was said; 2: wrong arguments, nothing was changed.
#
# Swarm's tokens: who has one can become a member, and a manager is root everywhere. So
# they are on no disk and not on the store, which whoever mounts the Gluster volume can
# read. A machine asks the managers through glusterd's own channel to its peers: glusterd
# runs a program by name on all servers of the pool for a command that root has given on
# one of them, and for no one else.
set -Eeuo pipefail
# What has no words of its own for a failure does not end without any.
trap 'echo "provision: line $LINENO has failed: $BASH_COMMAND" >&2' ERR
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C

hack=$(dirname "$(readlink -f "$0")")
readonly hack checkout=${hack%/*}
readonly known_systems="Debian 12 and later, Ubuntu 22.04 and later, and Fedora"
readonly ports="24007 and 49152-60999, TCP"
readonly patience=90 # seconds for what needs nobody else, as systemd gives a service to start
readonly config=/etc/default/glustervol
readonly units=/usr/lib/systemd/system
readonly mounts_dir=$units/run-glustervol-clients-.mount.d
# Gluster's servers and clients use TLS for volume files when it exists.
readonly secure_access=/var/lib/glusterd/secure-access
readonly program=/usr/local/sbin/glustervol

gluster='' docker='' driver='' swarm='' remove='' arbiter='' force_brick=''
peers=() volume=gv0 brick='' replica='' store='' tls='' swarm_token='' wait_seconds=''
self='' # the peer that this machine is
restart_driver='' pool_elsewhere=''
declare -A said=()
waiting=()

main() {
    parse "$@"
    ((EUID == 0)) || fail "it installs packages and starts services: run it as root"
    [[ -d /run/systemd/system ]] || fail "systemd does not run here, and it is what starts the services"
    if [[ -n $remove ]]; then
        remove_driver
        return
    fi
    check
    prepare
    converge
}

usage() {
    echo "provision: $*; see 'hack/provision.sh --help'" >&2
    exit 2
}

fail() {
    echo "provision: $*" >&2
    exit 1
}

changed() { echo "changed: $*"; }
already() { once "already so: $*"; }
warn() { once "warning: $*"; }

# once says a line that it has not said yet.
once() {
    [[ -z ${said[$1]-} ]] || return 0
    said[$1]=yes
    echo "$1"
}

# wait_for notes what this machine cannot do alone.
wait_for() {
    waiting+=("$*")
    once "waiting for $*"
}

# await repeats a command until it succeeds.
await() {
    local end=$((SECONDS + patience))
    until "$@" &>/dev/null; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# --- arguments ---

parse() {
    local flag
    while (($# > 0)); do
        flag=$1
        shift
        case $flag in
            -h | --help) help && exit ;;
            --gluster) gluster=yes ;;
            --docker) docker=yes ;;
            --swarm) swarm=yes ;;
            --arbiter) arbiter=yes ;;
            --force-brick) force_brick=yes ;;
            --driver)
                driver=$checkout/bin/glustervol
                [[ ${1--} == -* ]] || { driver=$1 && shift; }
                ;;
            --peers | --volume | --brick | --replica | --store | --tls | --swarm-token | --wait | --remove)
                (($# > 0)) || usage "$flag needs a value"
                set_value "$flag" "$1"
                shift
                ;;
            *) usage "unknown argument '$flag'" ;;
        esac
    done
    [[ -n $remove ]] || check_arguments
}

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$hack/provision.sh"; }

set_value() {
    local flag=$1 value=$2
    case $flag in
        --peers) IFS=, read -ra peers <<<"$value" ;;
        --volume) volume=$value ;;
        --brick) brick=${value%/} ;;
        --replica) replica=$value ;;
        --store) store=$value ;;
        --tls) tls=${value%/} ;;
        --swarm-token) swarm_token=$value ;;
        --wait) wait_seconds=$value ;;
        --remove) remove=$value ;;
    esac
    [[ -z $remove || $remove == driver ]] || usage "--remove takes away the driver alone, not '$remove'"
    [[ $wait_seconds =~ ^[0-9]*$ ]] || usage "--wait takes seconds, not '$value'"
    [[ $volume =~ ^[A-Za-z0-9_-]+$ ]] || usage "'$volume' is no name for a Gluster volume: letters, digits, '-' and '_'"
}

check_arguments() {
    [[ -n $gluster$docker$driver$swarm ]] || usage "no role: --gluster, --docker, --driver or --swarm"
    check_names
    [[ -z $tls || -n $gluster$driver ]] || usage "--tls is for --gluster and --driver"
    [[ -z $gluster ]] || check_gluster_arguments
    [[ -z $driver ]] || check_driver_arguments
    [[ -z $swarm ]] || check_swarm_arguments
}

check_names() {
    local peer
    for peer in "${peers[@]}"; do
        [[ $peer =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || usage "'$peer' in --peers is no host's name"
    done
    peer=$(printf '%s\n' "${peers[@]}" | sort | uniq -d)
    [[ -z $peer ]] || usage "--peers names $peer twice"
}

check_gluster_arguments() {
    ((${#peers[@]} > 0)) || usage "--gluster needs --peers: all Gluster servers, this one too"
    brick=${brick:-/srv/gluster/$volume}
    [[ $brick =~ ^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$ ]] || usage "--brick is an absolute path, not '$brick'"
    replica=${replica:-$((${#peers[@]} < 3 ? ${#peers[@]} : 3))}
    [[ $replica =~ ^[1-9]$ ]] || usage "--replica takes a number, not '$replica'"
    ((${#peers[@]} % replica == 0)) || usage "${#peers[@]} peers cannot have $replica copies of each file: it takes a multiple of $replica"
    [[ -z $arbiter ]] || ((replica == 3)) || usage "--arbiter is the third of three copies: it needs --replica 3, not $replica"
}

check_driver_arguments() {
    local one
    [[ -e $driver ]] || fail "no driver at $driver: run 'make build' in the checkout, or give --driver a package or a binary"
    [[ -n $store || ${#peers[@]} -gt 0 ]] || usage "--driver needs --store, or --peers to make it of"
    for one in $store; do
        [[ $one =~ ^[][A-Za-z0-9.,:_-]+:/[A-Za-z0-9/._-]+$ ]] || usage "'$one' is no store: SERVER[,SERVER...]:/VOLUME[/DIRECTORY]"
    done
}

check_swarm_arguments() {
    [[ -n $swarm_token || -n $gluster ]] ||
        usage "--swarm needs --gluster, whose peers tell each other Swarm's token, or --swarm-token FILE"
    [[ -z $swarm_token || -r $swarm_token ]] || fail "no file $swarm_token for --swarm-token"
    [[ -z $swarm_token ]] || [[ $(<"$swarm_token") =~ SWMTKN-[^[:space:]]+[[:space:]]+[^[:space:]]+:[0-9]+ ]] ||
        fail "$swarm_token has no token: write there what 'docker swarm join-token worker' prints on a manager"
}

# --- checks: nothing is changed before all have passed ---

check() {
    check_system
    check_clock
    [[ -z $gluster ]] || find_self
    check_servers
    [[ -z $tls ]] || check_tls
    if [[ -n $gluster ]]; then
        check_own_port
        check_volume ''
        # glusterd may have been stopped.
        volume_exists '' || [[ -d /var/lib/glusterd/vols/$volume ]] || check_brick
    fi
    [[ -z $driver ]] || check_driver
    check_firewall
}

# groups prints what hack/install-deps.sh is to install.
groups() { echo "${gluster:+gluster }${docker:+docker }${swarm:+docker }${driver:+client}"; }

check_system() {
    local packages ID='' VERSION_ID='' PRETTY_NAME=''
    # shellcheck disable=SC2046 # words
    packages=$("$hack/install-deps.sh" --missing $(groups))
    [[ -n $packages ]] || return 0
    # shellcheck disable=SC1091 # of this machine
    . /etc/os-release
    case $ID in
        debian) ((${VERSION_ID%%.*} >= 12)) && return ;;
        ubuntu) ((${VERSION_ID%%.*} >= 22)) && return ;;
        fedora) return ;;
    esac
    fail "the packages of ${PRETTY_NAME:-this system} are not known, only those of $known_systems. Install what Debian calls ${packages//$'\n'/, } (Gluster 10 or later), and run this again"
}

# check_clock only warns, since neither Gluster nor the driver compares clocks; and only
# of this machine's, since nothing that runs on a bare machine would tell its time.
check_clock() {
    [[ $(timedatectl show --property=NTPSynchronized --value 2>/dev/null || true) != no ]] ||
        warn "this machine's clock is not synchronised ('timedatectl' says so; the peers' clocks cannot be seen from here). Nothing depends on it but the times of files and logs"
}

# find_self finds out which of the peers this machine is.
find_self() {
    local peer own address others=''
    own=" $(hostname -I) 127.0.0.1 127.0.1.1 127.0.2.1 ::1 "
    for peer in "${peers[@]}"; do
        address=$(address_of "$peer")
        [[ -n $address ]] || fail "the name $peer cannot be resolved: give it an address in DNS, or in /etc/hosts on all peers"
        [[ " $others " != *" $address "* ]] || fail "$peer has the address of another peer, $address: two copies of a file would be on one machine"
        others+=" $address"
        if [[ $own == *" $address "* ]]; then
            [[ -z $self ]] || fail "$self and $peer are both this machine: two copies of a file would be on it"
            self=$peer
        fi
    done
    [[ -n $self ]] || fail "none of the peers ${peers[*]} is this machine, which has: $(hostname -I)"
    [[ -z $swarm || $(address_of "$self") != 127.* ]] ||
        fail "$self is $(address_of "$self") in /etc/hosts of this machine: write its own address there, which a Swarm has to tell others"
}

address_of() { getent ahosts "$1" | awk '{ print $1; exit }' || true; }

# others prints the peers that this machine is not.
others() {
    local peer
    for peer in "${peers[@]}"; do
        [[ $peer == "$self" ]] || echo "$peer"
    done
}

# servers prints the other machines whose glusterd this one has to reach.
servers() {
    local one list
    others
    for one in $store; do
        list=${one%%:/*}
        tr ',' '\n' <<<"$list" | tr -d '[]'
    done
}

check_servers() {
    local server
    for server in $(servers | sort -u); do
        [[ -n $(address_of "$server") ]] || fail "the name $server cannot be resolved: give it an address in DNS, or in /etc/hosts"
        [[ $(reach "$server" 24007) != filtered ]] ||
            fail "$server answers a ping, but a firewall keeps this machine from its port 24007: open $ports, between all nodes"
    done
}

# reach tells what becomes of a connection: it is open, refused since nothing listens
# there, filtered on the way to a machine that is up, or nothing comes back at all.
reach() {
    local out
    if out=$(timeout 3 bash -c ": </dev/tcp/$1/$2" 2>&1); then
        echo open
    elif [[ $out == *refused* ]]; then
        echo refused
    elif ping -c 1 -W 2 "$1" &>/dev/null; then
        echo filtered
    else
        echo silent
    fi
}

check_own_port() {
    ! systemctl is-active --quiet glusterd || return 0
    [[ $(reach 127.0.0.1 24007) != open ]] ||
        fail "another program than the service glusterd has taken port 24007: 'ss -lntp' shows which; end it"
}

# volume_exists asks the glusterd of this machine, or another one.
volume_exists() { glusterd_of "${1-}" volume info "$volume" &>/dev/null; }

glusterd_of() {
    local host=$1
    shift
    timeout 20 gluster ${host:+"--remote-host=$host"} --mode=script "$@"
}

# check_volume sees that a Gluster volume of that name, if there is one, is the one meant.
check_volume() {
    local bricks wanted
    volume_exists "$1" || return 0
    bricks=$(glusterd_of "$1" volume info "$volume" | sed -n 's/^Brick[0-9]*: //p' | sed 's/ .*//')
    wanted=$(bricks)
    [[ $bricks == "$wanted" ]] ||
        fail "there is a Gluster volume $volume with other bricks than --peers and --brick say, on ${1:-this machine}: ${bricks//$'\n'/ }, not ${wanted//$'\n'/ }. Give --volume another name, or say which bricks it has"
}

bricks() { printf "%s:$brick\n" "${peers[@]}"; }

check_brick() {
    local dir=$brick type free
    [[ ! -e $brick || -d $brick ]] || fail "the brick $brick is no directory"
    [[ ! -d $brick || -z $(ls -A "$brick") ]] ||
        fail "the directory $brick is not empty, and no brick of $volume: give --brick another one, or move away what is there"
    until [[ -d $dir ]]; do
        dir=$(dirname "$dir")
    done
    type=$(stat --file-system --format=%T "$dir")
    [[ -n $force_brick || $(stat --format=%d "$dir") != "$(stat --format=%d /)" ]] ||
        fail "the brick $brick would be on the root file system, which a full Gluster volume would fill: mount a disk of its own there, or say --force-brick"
    [[ $type =~ ^(xfs|ext2/ext3|btrfs|zfs)$ ]] ||
        fail "the brick $brick would be on a file system of type $type, which does not keep the extended attributes that Gluster needs: use XFS or ext4"
    [[ -n $force_brick ]] || ! mountpoint --quiet "$brick" ||
        fail "$brick is a mount point: without its disk, Gluster would write below it. Take a directory in it, --brick $brick/brick, or say --force-brick"
    free=$(df --block-size=1M --output=avail "$dir" | tail -n 1)
    [[ -n $force_brick ]] || ((free >= 1024)) ||
        fail "the file system of the brick $brick has $((free)) MiB free, less than 1 GiB: make room, or say --force-brick"
}

check_driver() {
    local stores
    stores=$(configured_store)
    [[ -n $store || -z $stores || $stores == "$(wanted_store)" ]] ||
        fail "$config has another store, $stores: say --store '$stores' to keep it, or --store '$(wanted_store)'"
    if is_package; then
        [[ ! -e $program ]] || fail "$program is not of a package, and would hide the package's: take it away by 'hack/provision.sh --remove driver'"
    else
        ! package_installed || fail "the package glustervol is installed: give --driver a newer package, or take it away by 'hack/provision.sh --remove driver'"
    fi
}

# check_tls looks at the certificate as OpenSSL does in Gluster, which tells little.
check_tls() {
    local file name
    name=$(tls_name)
    for file in ca.pem "$name.pem" "$name.key"; do
        [[ -r $tls/$file ]] || fail "no file $tls/$file: hack/tls-ca $tls ${peers[*]:-$name} makes a test CA and certificates"
    done
    if command -v openssl >/dev/null; then
        openssl verify -CAfile "$tls/ca.pem" "$tls/$name.pem" &>/dev/null ||
            fail "$tls/$name.pem is not, or no more, a certificate of $tls/ca.pem: 'openssl verify' says why"
    fi
    [[ -n $gluster ]] && volume_exists || return 0
    [[ $(gluster volume get "$volume" server.ssl | awk '$1 == "server.ssl" { print $2 }') == on ]] ||
        fail "the Gluster volume $volume runs without TLS, and its clients would be cut off: stop it, 'gluster volume set $volume server.ssl on', client.ssl likewise, auth.ssl-allow '*', and start it; or leave --tls out"
}

# tls_name is the name in this machine's certificate.
tls_name() { echo "${self:-$(hostname)}"; }

check_firewall() {
    local firewall
    for firewall in firewalld ufw; do
        ! systemctl is-active --quiet "$firewall" ||
            warn "$firewall runs here, and is left as it is: the nodes need each other's ports $ports${swarm:+, and for Swarm 2377 and 7946 TCP, 7946 and 4789 UDP}"
    done
}

# --- what this machine does by itself ---

prepare() {
    install_packages
    [[ -z $tls ]] || install_tls
    [[ -z $gluster ]] || install_gluster
    [[ -z $driver ]] || install_driver
    [[ -z $docker$swarm ]] || run_service docker Docker
}

install_packages() {
    local packages
    # shellcheck disable=SC2046 # words
    packages=$("$hack/install-deps.sh" --missing $(groups))
    if [[ -z $packages ]]; then
        already "no package is missing"
        return
    fi
    # shellcheck disable=SC2046 # words
    quietly "$hack/install-deps.sh" $(groups)
    changed "installed ${packages//$'\n'/ }"
}

# quietly runs a command, and shows what it printed if it fails.
quietly() {
    local out
    out=$("$@" 2>&1) || { echo "$out" >&2 && fail "this has failed: $*"; }
}

# run_service has systemd start a service, now and at each boot.
run_service() {
    local unit=$1 name=$2
    if systemctl is-enabled --quiet "$unit" 2>/dev/null && systemctl is-active --quiet "$unit"; then
        already "$name runs, and will after a reboot"
        return
    fi
    quietly systemctl enable --now "$unit"
    changed "$name runs, and will after a reboot"
}

# install_tls installs certificate and key where Gluster looks for them, which is the
# directory of the OpenSSL that it was built with.
install_tls() {
    local name dir extension new=''
    name=$(tls_name)
    put 644 "$tls/$name.pem" /etc/ssl/glusterfs.pem new
    put 600 "$tls/$name.key" /etc/ssl/glusterfs.key new
    put 644 "$tls/ca.pem" /etc/ssl/glusterfs.ca new
    dir=$(openssl_dir)
    if [[ ! $dir -ef /etc/ssl ]]; then
        for extension in pem key ca; do
            [[ $dir/glusterfs.$extension -ef /etc/ssl/glusterfs.$extension ]] ||
                ln -sf "/etc/ssl/glusterfs.$extension" "$dir/glusterfs.$extension"
        done
    fi
    if [[ ! -e $secure_access ]]; then
        mkdir -p "$(dirname "$secure_access")"
        touch "$secure_access"
        new=yes
    fi
    if [[ -z $new ]]; then
        already "Gluster speaks TLS, with the certificate $tls/$name.pem"
        return
    fi
    restart_driver=yes
    changed "Gluster speaks TLS, with the certificate $tls/$name.pem"
    ! systemctl is-active --quiet glusterd ||
        warn "glusterd uses the new certificate when it is restarted: 'systemctl restart glusterd', on one server after the other, each when 'gluster volume heal $volume info' lists nothing"
}

openssl_dir() {
    local file
    file=$(cat /usr/lib*/glusterfs/*/rpc-transport/socket.so /usr/lib/*/glusterfs/*/rpc-transport/socket.so 2>/dev/null |
        grep -aoE '/[A-Za-z0-9/._-]+/glusterfs\.pem' | sort -u) || true
    dirname "${file:-/etc/ssl/glusterfs.pem}"
}

install_gluster() {
    if [[ -d $brick ]]; then
        already "the brick $brick"
    else
        mkdir -p "$brick"
        changed "made the directory $brick for the brick"
    fi
    run_service glusterd "Gluster's glusterd"
    await gluster pool list || fail "glusterd does not answer: see 'journalctl -u glusterd' and /var/log/glusterfs/glusterd.log"
}

# --- the driver ---

is_package() { [[ $driver == *.deb || $driver == *.rpm ]]; }

package_installed() { [[ -n $(package_version) ]]; }

# package_version prints which version of the package is installed.
package_version() {
    if command -v dpkg-query >/dev/null; then
        dpkg-query --show --showformat='${db:Status-Abbrev} ${Version}' glustervol 2>/dev/null | sed -n 's/^ii  *//p' || true
    else
        rpm -q --queryformat '%{VERSION}-%{RELEASE}' glustervol 2>/dev/null || true
    fi
}

wanted_store() {
    local IFS=,
    echo "${store:-${peers[*]}:/$volume}"
}

# configured_store prints what the driver's configuration says, as systemd reads it.
configured_store() {
    [[ ! -e $config ]] || sed -n 's/^GLUSTERVOL_STORE=//p' "$config" | tail -n 1 | tr -d "\"'"
}

install_driver() {
    if is_package; then
        install_driver_package
    else
        install_driver_files
    fi
    configure_driver
    start_driver
}

install_driver_package() {
    local before
    before=$(package_version)
    if [[ -n $before && $before == "$(version_of_file)" ]]; then
        already "the package glustervol $before is installed"
        return
    fi
    case $driver in
        *.deb) DEBIAN_FRONTEND=noninteractive quietly apt-get -q -y -o DPkg::Lock::Timeout=300 \
            -o Dpkg::Options::=--force-confold install --no-install-recommends "$(readlink -f "$driver")" ;;
        *.rpm) quietly dnf install -q -y "$(readlink -f "$driver")" ;;
    esac
    restart_driver=yes
    changed "installed the package glustervol $(package_version)"
}

version_of_file() {
    case $driver in
        *.deb) dpkg-deb --field "$driver" Version ;;
        *.rpm) rpm -q --queryformat '%{VERSION}-%{RELEASE}' --package "$driver" ;;
    esac
}

# install_driver_files is what 'make install' does; a bare machine has no make.
install_driver_files() {
    local systemd=$checkout/hack/systemd new=''
    put 755 "$driver" "$program" new
    put 644 "$systemd/glustervol.socket" "$units/glustervol.socket" new
    put 644 "$systemd/glustervol.service" "$units/glustervol.service" new
    put 644 "$systemd/glustervol-mounts.conf" "$mounts_dir/glustervol.conf" new
    [[ -e $config ]] || put 644 "$systemd/glustervol.default" "$config" new
    if [[ -z $new ]]; then
        already "the driver's files are those of $driver"
    else
        systemctl daemon-reload
        restart_driver=yes
        changed "installed the driver from $driver"
    fi
}

# put copies a file to its place unless that is what is there, and sets a variable if not.
put() {
    local mode=$1 from=$2 to=$3
    local -n is_new=$4
    ! cmp --quiet "$from" "$to" || return 0
    install -D --mode="$mode" "$from" "$to"
    # shellcheck disable=SC2034 # the caller's
    is_new=yes
}

configure_driver() {
    local wanted
    wanted=$(wanted_store)
    if [[ $(configured_store) == "$wanted" ]]; then
        already "the driver's store is $wanted"
        return
    fi
    # The last line counts, so it is the only one.
    sed -i '/^GLUSTERVOL_STORE=/d' "$config"
    echo "GLUSTERVOL_STORE=\"$wanted\"" >>"$config"
    restart_driver=yes
    changed "the driver's store is $wanted, in $config"
}

start_driver() {
    if [[ -n $restart_driver ]]; then
        quietly systemctl enable glustervol.socket glustervol.service
        quietly systemctl start glustervol.socket
        quietly systemctl restart glustervol.service
        changed "the driver runs, and will after a reboot, before Docker"
    else
        run_service glustervol.socket "the driver's socket"
        run_service glustervol.service "the driver"
    fi
}

# glustervol runs the installed program, the package's or the other one.
glustervol() { timeout 60 env glustervol "$@"; }

# --- what takes the other machines ---

# converge does what can be done, and once more while there is something to wait for.
converge() {
    local end=$((SECONDS + ${wait_seconds:-0}))
    while :; do
        waiting=()
        together
        ((${#waiting[@]} > 0)) || break
        ((SECONDS < end)) || break
        sleep 1
    done
    if ((${#waiting[@]} == 0)); then
        echo "done: $(hostname) has all that was asked for"
        return
    fi
    [[ -z $wait_seconds ]] || fail "after $wait_seconds s still waiting for ${waiting[0]}"
    echo "waiting: run this again when that is done; what is said above is done"
}

together() {
    [[ -z $gluster ]] || make_volume
    [[ -z $swarm ]] || join_swarm
    [[ -z $driver ]] || see_store
}

make_volume() {
    if ! volume_exists; then
        make_pool
        ((${#waiting[@]} == 0)) || return 0
        create_volume
        ((${#waiting[@]} == 0)) || return 0
    fi
    check_volume ''
    already "the peers ${peers[*]} are in one pool, with the Gluster volume $volume"
    start_volume
}

# make_pool brings the peers into one pool. A server can only be taken in from within, so
# one that is alone begins no pool before it sees all others: else the last to come
# would find the door shut.
make_pool() {
    local peer pool me alone='' new=()
    me=$(glusterd_of '' system:: uuid get | sed -n 's/^UUID: //p')
    ! is_alone "$(glusterd_of '' pool list)" || alone=yes
    pool_elsewhere=''
    for peer in $(others); do
        if [[ $(reach "$peer" 24007) != open ]] || ! pool=$(glusterd_of "$peer" pool list 2>/dev/null); then
            wait_for "$peer: no glusterd answers there yet"
        elif [[ $pool == *"$me"* ]]; then
            continue
        elif is_alone "$pool"; then
            check_volume "$peer"
            new+=("$peer")
        else
            refused_by "$peer" "$alone"
        fi
    done
    [[ -z $alone ]] || ((${#waiting[@]} == 0)) || return 0
    for peer in "${new[@]}"; do
        take_in "$peer"
    done
    await peers_are_ready || wait_for "the peers: not all are connected, says 'gluster peer status'"
}

# is_alone tells whether a pool, below its heading, has one server.
is_alone() { (($(wc -l <<<"$1") <= 2)); }

refused_by() {
    local peer=$1 alone=$2
    [[ -n $alone ]] || fail "$peer is in another pool of Gluster servers than $self is: see 'gluster pool list' on both, and detach one of them"
    pool_elsewhere=yes
    wait_for "$peer, or another server of its pool, to take $self in: run this there again"
}

take_in() {
    local out
    if out=$(glusterd_of '' peer probe "$1" 2>&1); then
        changed "took $1 into the pool of Gluster servers"
    else
        # Another one may be making the pool at this moment.
        wait_for "$1 to join the pool: ${out#peer probe: }"
    fi
}

peers_are_ready() {
    local ready
    ready=$(gluster peer status | grep -cF 'State: Peer in Cluster (Connected)') || true
    ((ready >= ${#peers[@]} - 1))
}

create_volume() {
    local out kind=() list end=$((SECONDS + patience))
    ((replica == 1)) || kind=(replica "$replica" ${arbiter:+arbiter 1})
    ((replica != 2)) || warn "two copies, and no quorum: when the servers lose each other, both can change a file, and which one is right nobody knows. With a third peer say --arbiter"
    mapfile -t list < <(bricks)
    # Those that are new in a pool know each other a moment later.
    until out=$(glusterd_of '' volume create "$volume" "${kind[@]}" "${list[@]}" ${force_brick:+force} 2>&1); do
        ! volume_exists || return 0 # another server's
        if [[ $out == *"Failed to create brick directory"* ]]; then
            wait_for "a peer to make its brick: $out"
            return
        fi
        if ((SECONDS >= end)) || [[ ! $out =~ "Peer in Cluster"|"not connected"|"Another transaction"|"Locking failed" ]]; then
            fail "Gluster makes no volume $volume: $out"
        fi
        sleep 0.5
    done
    changed "made the Gluster volume $volume of ${list[*]}"
}

start_volume() {
    local out
    case $(glusterd_of '' volume info "$volume" | sed -n 's/^Status: //p') in
        Started) already "the Gluster volume $volume is started" ;;
        Stopped) wait_for "somebody who says 'gluster volume start $volume': it was stopped" ;;
        *)
            [[ -z $tls ]] || secure_volume
            if out=$(glusterd_of '' volume start "$volume" 2>&1); then
                changed "started the Gluster volume $volume"
            else
                wait_for "the Gluster volume $volume to start: $out"
            fi
            ;;
    esac
}

# secure_volume has the bricks of a volume that is not started yet take TLS connections
# alone, of who has a certificate of the CA.
secure_volume() {
    local option
    for option in "client.ssl on" "server.ssl on" "auth.ssl-allow *"; do
        quietly glusterd_of '' volume set "$volume" "${option% *}" "${option#* }"
    done
    changed "the Gluster volume $volume takes TLS connections alone"
}

# --- Swarm ---

join_swarm() {
    local state token
    await docker version || fail "Docker does not answer: see 'journalctl -u docker'"
    [[ -z $gluster ]] || offer_tokens
    state=$(docker info --format '{{.Swarm.LocalNodeState}}')
    if [[ $state == active ]]; then
        already "a member of a Swarm"
        return
    fi
    [[ $state == inactive ]] || fail "this machine's state in a Swarm is '$state': see 'docker info', or leave it by 'docker swarm leave'"
    token=$(find_token)
    if [[ -n $token ]]; then
        # shellcheck disable=SC2086 # a token and an address
        quietly docker swarm join --token $token
        changed "joined the Swarm of ${token#* }"
    elif [[ $self == "${peers[0]-}" && -z $pool_elsewhere ]]; then
        quietly docker swarm init --advertise-addr "$(address_of "$self")"
        changed "made a Swarm"
    else
        wait_for "the Swarm of ${peers[0]}: no manager tells its token; --swarm has to run on all peers"
    fi
}

# offer_tokens has glusterd's peers ask this machine, once it is a manager.
offer_tokens() {
    local to
    to=$(gluster_programs)/peer_glustervol_swarm
    if cmp --quiet "$hack/swarm-token" "$to"; then
        already "Gluster's servers can ask each other for Swarm's tokens"
    else
        install --mode=700 "$hack/swarm-token" "$to"
        changed "Gluster's servers can ask each other for Swarm's tokens, by $to"
    fi
}

gluster_programs() {
    local file
    for file in /usr/libexec/glusterfs/glfsheal /usr/lib/*/glusterfs/glfsheal; do
        [[ ! -e $file ]] || { dirname "$file" && return; }
    done
    fail "Gluster's programs, glfsheal among them, are not where they are known to be: /usr/libexec/glusterfs"
}

# find_token prints a token and the address of a manager.
find_token() {
    local role=worker
    # Three managers agree while two are alive. Two would be worse than one.
    if [[ " ${peers[*]:0:$((${#peers[@]} < 3 ? 1 : 3))} " == *" $self "* ]]; then
        role=manager
    fi
    if [[ -n $swarm_token ]]; then
        grep -oE 'SWMTKN-\S+\s+\S+:[0-9]+' "$swarm_token" | head -n 1
    else
        # The command fails while a server lacks the program.
        glusterd_of '' system:: execute glustervol_swarm "$role" 2>/dev/null | grep -m 1 '^SWMTKN-' || true
    fi
}

# --- the driver and the store ---

see_store() {
    # A client that has met the volume before that took TLS connections tries no others.
    if [[ -n $tls ]] && ((${#waiting[@]} == 0)) && ! store_is_reached; then
        quietly systemctl restart glustervol.service
        changed "restarted the driver, as it did not reach the store over TLS"
    fi
    # A driver whose Gluster volume has just been made tries again by itself.
    if ((${#waiting[@]} > 0)) && ! store_is_reached || ! await store_is_reached; then
        wait_for "the driver to reach the store $(wanted_store): $(why_not_reached)"
        return
    fi
    already "the driver reaches the store $(wanted_store)"
    # A Swarm takes a node for one that has the driver when that was used there.
    ! docker version &>/dev/null || docker volume ls &>/dev/null
}

store_is_reached() {
    local info
    info=$(glustervol info) && [[ ${info,,} != *"not reached"* ]]
}

why_not_reached() {
    local why
    why=$(glustervol info 2>&1 | sed -n 's/^.*NOT reached: //p' | head -n 1) || true
    echo "${why:-"'glustervol info' says why it does not"}"
}

# --- out again ---

remove_driver() {
    if ! package_installed && [[ ! -e $program && ! -e $units/glustervol.service && ! -e $config ]]; then
        already "no driver is installed"
        return
    fi
    refuse_users
    release_volumes
    quietly systemctl disable --now glustervol.socket glustervol.service
    unmount_clients
    remove_files
    changed "removed the driver, its configuration and its state. All volumes stay on the store"
    echo "Other nodes list this one until one of them says 'glustervol node forget'. Docker asks for the driver whenever it lists volumes, in vain for 15 s, until it is restarted"
}

# refuse_users stops while something has a volume: it would lose it.
refuse_users() {
    local name users=''
    if docker version &>/dev/null; then
        for name in $(docker volume ls --quiet --filter driver=glustervol 2>/dev/null); do
            users+=$(docker ps --all --filter "volume=$name" --format "{{.Names}} ($name) ")
        done
    fi
    [[ -z $users ]] || fail "containers have volumes of the driver, running or not: $users- remove them first ('docker rm'; in a Swarm, drain this node)"
    for name in /run/glustervol/mounts/*.json; do
        [[ ! -e $name ]] || fail "volume $(basename "$name" .json) is mounted on this machine: 'glustervol inspect' says by whom; have it unmounted first"
    done
}

release_volumes() {
    if systemctl is-active --quiet glustervol.service; then
        ! docker version &>/dev/null || quietly glustervol release
    else
        warn "the driver does not run, so Docker may remember volumes of it, and wait 15 s for each at its next start"
    fi
}

# unmount_clients ends Gluster clients that nobody uses any more.
unmount_clients() {
    local mount
    awk '$5 ~ "^/run/glustervol/" { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
        umount "$mount" || fail "$mount is in use: 'fuser -vm $mount' shows by whom; end that, and run this again"
    done
}

remove_files() {
    if package_installed; then
        if command -v apt-get >/dev/null; then
            DEBIAN_FRONTEND=noninteractive quietly apt-get -q -y -o DPkg::Lock::Timeout=300 purge glustervol
        else
            quietly dnf remove -q -y glustervol
        fi
    fi
    rm -f "$program" "$units"/glustervol.{socket,service} "$mounts_dir/glustervol.conf" "$config"
    [[ ! -d $mounts_dir ]] || rmdir --ignore-fail-on-non-empty "$mounts_dir"
    rm -rf --one-file-system /run/glustervol /var/lib/glustervol /var/log/glustervol
    [[ ! -d /run/docker/plugins ]] || rmdir --ignore-fail-on-non-empty /run/docker/plugins
    systemctl daemon-reload
    systemctl reset-failed glustervol.service glustervol.socket 2>/dev/null || true
}

main "$@"
