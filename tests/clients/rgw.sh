#!/usr/bin/env bash
# A throw-away Ceph Object Gateway: one monitor, one OSD with its objects in memory, one radosgw.
#
#   RGW_PORT=N MON_PORT=N rgw.sh start DIRECTORY   returns once S3 requests are answered on 127.0.0.1:RGW_PORT
#   rgw.sh stop DIRECTORY                          ends exactly the processes that start began
#   RGW_TENANT=NAME rgw.sh user DIRECTORY          makes a user of a tenant, with these keys
#
# Choose ports below 32768: above, an outgoing connection may hold one. Needs the Debian packages
# ceph-mon ceph-osd radosgw ceph-common. The keys of the user are RGW_ACCESS_KEY_ID and RGW_SECRET_ACCESS_KEY.
set -euo pipefail

fail() { echo "rgw.sh: $*" >&2; exit 1; }

action=${1:-}
directory=${2:-}
[[ -n $directory ]] || fail "usage: rgw.sh start|user|stop DIRECTORY"

alive() { # name: only a pid that still is the program that was started counts
  local file="$directory/pids/$1" pid
  [[ -f $file ]] || return 1
  pid=$(<"$file")
  [[ -r /proc/$pid/cmdline && $({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null) == *"$directory/ceph.conf"* ]]
}

stop_all() {
  local name
  for name in radosgw osd mon; do
    alive "$name" || continue
    kill -TERM "$(<"$directory/pids/$name")"
    for _ in {1..50}; do alive "$name" || break; sleep 0.1; done
    ! alive "$name" || kill -KILL "$(<"$directory/pids/$name")"
  done
}

background() { # name, command...
  local name=$1
  shift
  setsid "$@" >"$directory/logs/$name.out" 2>&1 </dev/null &
  echo $! >"$directory/pids/$name"
}

eventually() { # seconds, what is awaited, the process it depends on, command...
  local deadline=$((SECONDS + $1)) what=$2 name=$3
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)) || ! alive "$name"; then
      tail -n 20 "$directory/logs/$name".* >&2 || true
      stop_all
      fail "$what did not come up"
    fi
    sleep 0.2
  done
}

write_configuration() { # cluster id
  cat >"$directory/ceph.conf" <<CONF
[global]
fsid = $1
mon initial members = solo
mon host = v1:127.0.0.1:$MON_PORT
public addr = 127.0.0.1
public network = 127.0.0.0/8
ms bind ipv4 = true
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
keyring = $directory/keyring
run dir = $directory/pids
# radosgw-admin asks the socket of its name whether it is in use, and radosgw 16 may abort while it reads the question
admin socket =
log file = $directory/logs/\$name.log
# one OSD holds the only copy, and a nearly full developer machine must not stop it
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 2
mon data avail crit = 1

[mon.solo]
mon data = $directory/mon

[osd.0]
osd data = $directory/osd
osd objectstore = memstore
memstore device bytes = 3221225472

[client.rgw.solo]
# without nodelay every small answer waits some 40 ms for the reader's acknowledgement
rgw frontends = beast endpoint=127.0.0.1:$RGW_PORT tcp_nodelay=1
rgw dns name = localhost
CONF
}

start_all() {
  local ceph=(-c "$directory/ceph.conf") cluster osd
  cluster=$(</proc/sys/kernel/random/uuid)
  osd=$(</proc/sys/kernel/random/uuid)
  write_configuration "$cluster"

  ceph-authtool --create-keyring "$directory/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
  ceph-authtool "$directory/keyring" --gen-key -n client.admin \
    --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
  monmaptool --create --fsid "$cluster" --addv solo "[v1:127.0.0.1:$MON_PORT]" "$directory/monmap" >/dev/null
  ceph-mon "${ceph[@]}" -i solo --mkfs --monmap "$directory/monmap" --keyring "$directory/keyring"
  background mon ceph-mon "${ceph[@]}" -i solo --foreground
  eventually 40 "the monitor" mon timeout 5 ceph "${ceph[@]}" mon stat

  ceph "${ceph[@]}" osd create "$osd" 0 >/dev/null
  ceph-osd "${ceph[@]}" -i 0 --mkfs --osd-uuid "$osd" >"$directory/logs/osd.mkfs" 2>&1
  # It may send its first command before it has the cluster's id, is refused ("wrong fsid") and ends.
  for _ in {1..8}; do
    background osd ceph-osd "${ceph[@]}" -i 0 --foreground
    sleep 1
    ! alive osd || break
  done
  eventually 60 "the OSD" osd bash -c "timeout 5 ceph -c '$directory/ceph.conf' osd stat | grep -q '1 up'"

  background radosgw radosgw "${ceph[@]}" -n client.rgw.solo --foreground
  eventually 90 "radosgw" radosgw curl -fsS -o /dev/null "http://127.0.0.1:$RGW_PORT/"
  make_user --uid=main || { stop_all; fail "the user could not be made"; }
}

make_user() { # arguments that name it
  radosgw-admin -c "$directory/ceph.conf" -n client.rgw.solo user create "$@" --display-name=main \
    --access-key="$RGW_ACCESS_KEY_ID" --secret-key="$RGW_SECRET_ACCESS_KEY" >/dev/null 2>"$directory/logs/user" ||
    { cat "$directory/logs/user" >&2; return 1; }
}

case $action in
  start)
    : "${RGW_PORT:?}" "${MON_PORT:?}" "${RGW_ACCESS_KEY_ID:?}" "${RGW_SECRET_ACCESS_KEY:?}"
    for program in ceph ceph-mon ceph-osd radosgw radosgw-admin curl; do
      command -v "$program" >/dev/null || fail "$program is not installed"
    done
    mkdir -p "$directory"
    directory=$(cd "$directory" && pwd)
    rm -rf "${directory:?}"/{mon,osd,pids,logs,monmap,keyring}
    mkdir -p "$directory"/{mon,osd,pids,logs}
    start_all
    ;;
  user)
    : "${RGW_TENANT:?}" "${RGW_ACCESS_KEY_ID:?}" "${RGW_SECRET_ACCESS_KEY:?}"
    directory=$(cd "$directory" && pwd)
    make_user --tenant="$RGW_TENANT" --uid="$RGW_TENANT" || fail "the user could not be made"
    ;;
  stop)
    [[ -d $directory ]] || fail "no such directory: $directory"
    directory=$(cd "$directory" && pwd)
    stop_all
    ;;
  *) fail "unknown action: $action" ;;
esac
