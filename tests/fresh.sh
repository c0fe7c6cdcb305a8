#!/usr/bin/env bash
# Proves the two commands on a bare machine: a Debian 12 that holds only git, make, python3,
# python3-venv and ca-certificates, no compiler and no libGL. A clone of this repository is put
# into it; an ordinary user there runs `make run` until the page answers, once more with the
# network cut off, and `make test`, also without a network.
#
#   FER_FRESH_DIR      where the bare system is kept between runs (default /var/tmp/fer-fresh)
#   FER_FRESH_STEPS    which steps to take (default "install run offline test")
#
# Mirror, package index and certificates are the ones that this machine itself is set up with;
# nothing of them is written into the repository.
set -euo pipefail

say() { printf '\n== %s\n' "$*"; }
fail() {
    echo "make fresh: $*" >&2
    exit 1
}

repository=$(cd "$(dirname "$0")/.." && pwd)
keep=${FER_FRESH_DIR:-/var/tmp/fer-fresh}
steps=${FER_FRESH_STEPS:-install run offline test}
packages=git,make,python3,python3-venv,ca-certificates

# Inside: a mount and process namespace of our own, so that whatever is mounted or started here
# is gone when it ends, however it ends.
if [ "${1:-}" = --inside ]; then
    root=$2
    mount --make-rprivate /
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    while read -r place; do
        mkdir -p "$root$place"
        mount --bind "$place" "$root$place"
        mount -o remount,bind,ro "$root$place"
    done <"$root/etc/fresh-binds"

    as_user() {
        # No variable of this machine gets in but those that pip needs.
        chroot --userspec=1000:1000 "$root" /usr/bin/env -i \
            HOME=/home/person PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 \
            /bin/bash -c "set -euo pipefail
                set -a; . /etc/fresh-pip; set +a
                cd /home/person/fer; $1"
    }
    without_network() {
        unshare --net -- bash -c "ip link set lo up && $(declare -f as_user); root='$root'; as_user \"\$1\"" - "$1"
    }
    # Starts the page as a person would, asks it the way that a probe does, stops it.
    visit='
        free="import socket; s = socket.socket(); s.bind((\"127.0.0.1\", 0)); print(s.getsockname()[1])"
        export FER_PORT=$(python3 -c "$free")
        ask() { python3 -c "
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())" "http://127.0.0.1:$FER_PORT$1"; }
        set -m
        make run >/tmp/page.log 2>&1 &
        page=$!
        for second in $(seq 1200); do
            ask /healthz >/dev/null 2>&1 && break
            kill -0 "$page" 2>/dev/null || { cat /tmp/page.log; echo "make run ended early"; exit 1; }
            sleep 1
        done
        health=$(ask /healthz)
        echo "The page answers after $SECONDS s: /healthz $health"
        # Fails unless a model serves.
        ready=$(ask /readyz)
        echo "/readyz $ready"
        grep -F "127.0.0.1:$FER_PORT" /tmp/page.log || { cat /tmp/page.log; echo "no address printed"; exit 1; }
        kill -TERM -- "-$page"
        wait "$page" || true
        if ask /healthz >/dev/null 2>&1; then echo "the page still answers"; exit 1; fi
        test -z "$(git status --porcelain)" || { git status --short; echo "the clone is not clean"; exit 1; }
    '
    for step in $steps; do
        case $step in
        install)
            say "make install"
            as_user 'make install; du -sh .venv'
            as_user '.venv/bin/python -c "
import mediapipe, gradio, ai_edge_litert.interpreter, sqlalchemy, psycopg, pillow_heif, cv2, keras
print(\"imports without libGL or compiler:\", mediapipe.__version__, keras.__version__)"' 2>&1 | tail -n 1
            ;;
        run) say "make run" && as_user "$visit" ;;
        offline) say "make run, with no network" && without_network "$visit" ;;
        test)
            say "make test"
            as_user 'make install-dev'
            without_network 'make test'
            ;;
        *) fail "there is no step $step" ;;
        esac
    done
    say "All of it works on a bare Debian 12: $steps."
    exit 0
fi

[ "$(id -u)" = 0 ] || fail "it makes a bare system with debootstrap, which only root may."
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap."
mkdir -p "$keep"

if [ ! -f "$keep/base.tar" ]; then
    say "Making a bare Debian 12 (once)"
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' |
        sed -n 's/^bookworm //p' | head -n 1)
    [ -n "$mirror" ] || fail "apt on this machine knows no mirror of bookworm."
    proxy=$(apt-config dump Acquire::http::Proxy | sed -n 's/.*"\(.*\)";/\1/p' | head -n 1)
    rm -rf "$keep/base"
    http_proxy=${http_proxy:-$proxy} debootstrap --variant=minbase --include="$packages" \
        bookworm "$keep/base" "$mirror" >"$keep/debootstrap.log" 2>&1 ||
        fail "debootstrap failed, see $keep/debootstrap.log."
    rm -f "$keep/base/var/cache/apt/archives/"*.deb
    tar -C "$keep/base" -cf "$keep/base.tar.part" .
    mv "$keep/base.tar.part" "$keep/base.tar"
    rm -rf "$keep/base"
fi

root=$(mktemp -d "$keep/root.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"
tar -C "$root" -xf "$keep/base.tar"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
for unwanted in cc gcc g++ chromium; do
    ! chroot "$root" /bin/sh -c "command -v $unwanted" || fail "the bare system has $unwanted."
done
! chroot "$root" ldconfig -p | grep -F libGL.so || fail "the bare system has libGL."

# pip's configuration of this machine, as variables; the folders that it names, to be mounted.
{
    python3 -m pip config list | sed -nE "s/^(global|install)\.([a-z-]+)='(.*)'$/\2 \3/p"
    env | sed -nE 's/^PIP_([A-Z_]+)=(.*)$/\1 \2/p'
} | while read -r name value; do
    name=$(echo "$name" | tr 'a-z-' 'A-Z_')
    printf 'PIP_%s=%q\n' "$name" "$value"
done >"$root/etc/fresh-pip"
printf 'SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n' >>"$root/etc/fresh-pip"
sed -E "s/^[A-Z_]+=//; s/\\\\ /\n/g" "$root/etc/fresh-pip" | sed -E "s/['$]//g; s,^file://,," |
    while read -r place; do
        [ "$(basename "$place")" != simple ] || place=$(dirname "$place")
        [ "${place#/}" = "$place" ] || [ ! -d "$place" ] || echo "$place"
    done | sort -u >"$root/etc/fresh-binds"

chroot "$root" useradd --create-home --uid 1000 person
git clone --quiet --no-hardlinks "$repository" "$root/home/person/fer"
git -C "$root/home/person/fer" remote remove origin
chown -R 1000:1000 "$root/home/person/fer"

unshare --mount --pid --fork --kill-child -- "$0" --inside "$root"
