#!/usr/bin/env bash
# Installs the Debian packages that are missing, as root or through sudo;
# otherwise prints the command and stops.
set -euo pipefail

missing=()
need() { # PACKAGE, then a test that succeeds when it is there
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

has_server() { ls /usr/lib/postgresql/*/bin/initdb || command -v initdb; }
has_etcd() { PATH=$PATH:/usr/sbin:/sbin command -v etcd; }

need protobuf-compiler command -v protoc
need gcc command -v cc
need postgresql has_server
need etcd-server has_etcd
for package in "$@"; do
    case $package in
        prometheus) need "$package" command -v promtool ;;
        python3-pip) need "$package" /usr/bin/python3 -m pip --version ;;
        *) need "$package" dpkg -s "$package" ;;
    esac
done
[ ${#missing[@]} -eq 0 ] && exit 0

install="apt-get install -y ${missing[*]}"
if [ "$(id -u)" -eq 0 ]; then
    as_root() { "$@"; }
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root() { sudo "$@"; }
else
    echo "Packages are missing. Run this as root, then try again:" >&2
    echo "    apt-get update && $install" >&2
    exit 1
fi
as_root apt-get update -qq

install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; }

# Of Prometheus only promtool is used, of HAProxy the check of a configuration: their servers are
# neither started now nor at boot.
programs=()
for package in "${missing[@]}"; do
    case $package in prometheus | haproxy) programs+=("$package") ;; esac
done
servers() {
    [ -d /run/systemd/system ] || return 0
    as_root systemctl "$@" "${programs[@]/%/.service}" || true
} >/dev/null 2>&1
if [ ${#programs[@]} -gt 0 ]; then
    servers mask --runtime
    trap 'servers unmask --runtime' EXIT
    install --no-install-recommends "${programs[@]}"
    servers disable
fi
install "${missing[@]}"
