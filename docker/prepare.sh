#!/bin/sh
# Once for all containers: folders that they may write, and an identity for each kind of them.
set -eu
# A folder inside the volume: its place itself cannot be renamed into.
ca=/concerto/ca/authority
if [ ! -f "$ca/ca.pem" ]; then
  concerto certs init --ca "$ca"
fi
issue() {
  role=$1; shift
  if [ ! -f "/concerto/identities/$role/cert.pem" ]; then
    concerto certs issue --ca "$ca" --role "$role" --name "$role" --out "/concerto/identities/$role/new" "$@"
    mv "/concerto/identities/$role/new/"* "/concerto/identities/$role/"
    rmdir "/concerto/identities/$role/new"
  fi
}
dialled=
for name in ${HOSTS:-}; do dialled="$dialled --host $name"; done
# shellcheck disable=SC2086 - one word each
issue cloud --host cloud --host link --host localhost --host 127.0.0.1 $dialled
# shellcheck disable=SC2086
issue simulator --host simulator --host localhost --host 127.0.0.1 $dialled
issue device
chown -R concerto:concerto /concerto/identities
chown concerto:concerto /concerto/cache
# The folder is the host's: whoever works there keeps it, and the containers may write there too.
chmod 1777 /concerto/runs
