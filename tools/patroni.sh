#!/usr/bin/env bash
# Puts Patroni into target/patroni, for the live test that takes a running
# cluster over from it. It is run as it is, by Debian's Python; nothing of it is
# installed outside of that folder. Done once.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted="patroni[etcd3]==4.1.5"
to=${CARGO_TARGET_DIR:-target}/patroni
python=/usr/bin/python3
works() { PYTHONPATH=$to "$python" -m patroni --version >/dev/null 2>&1; }
works && exit 0

mkdir -p "$(dirname "$to")"
fresh=$(mktemp -d "$to.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
if ! "$python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --only-binary psycopg-binary,psutil --target "$fresh/tree" "$wanted" "psycopg[binary]"; then
    echo "Patroni could not be fetched: pip install $wanted failed." >&2
    echo "With a working pip (apt-get install python3-pip), run tools/patroni.sh." >&2
    exit 1
fi
chmod -R u+rwX,go+rX "$fresh/tree"
[ ! -e "$to" ] || rm -r "${to:?}"
mv "$fresh/tree" "$to"
works || { echo "$wanted does not run with $python." >&2; exit 1; }
