#!/bin/sh
# One Corosync node and its member, in the network namespace it was started in and in folders of their
# own: node.sh MEMBERS RANK MEMBER_PROGRAM. Needs root. Both end together.
set -e
members=$1 rank=$2 program=$3
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/corosync
mount -t tmpfs tmpfs /dev/shm
conf=/run/corosync.conf
cat >$conf <<END
totem {
    version: 2
    cluster_name: race
    transport: ${RACE_COROSYNC_TRANSPORT:-knet}
    crypto_cipher: none
    crypto_hash: none
    ${RACE_COROSYNC_TOTEM:-}
}
quorum {
}
system {
    allow_knet_handle_fallback: yes
}
logging {
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: /run/corosync.log
}
nodelist {
END
for at in $(seq 1 "$members"); do
    printf 'node {\nnodeid: %s\nname: n%s\nring0_addr: 10.77.0.%s\n}\n' "$at" "$at" "$at" >>$conf
done
echo '}' >>$conf
setpriv --pdeathsig KILL corosync -f -c $conf </dev/null >/run/out 2>&1 &
exec "$program" "$members" "$rank"
