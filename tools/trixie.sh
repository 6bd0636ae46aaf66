#!/bin/sh
# Builds and tests on Debian 13 (oneDNN 3, FFmpeg 7, gcc 14) inside a chroot made by debootstrap
# from the mirror that this machine uses. Needs root and debootstrap.
# usage: tools/trixie.sh [FOLDER]     (default /var/tmp/tessera-trixie; kept for the next time)
set -eu
root=${1:-/var/tmp/tessera-trixie}
here=$(cd "$(dirname "$0")/.." && pwd)
apt="env DEBIAN_FRONTEND=noninteractive apt-get"
[ "$(id -u)" = 0 ] || {
    echo "needs root: debootstrap and chroot" >&2
    exit 1
}
command -v debootstrap >/dev/null || {
    apt-get update -qq
    $apt install -y -qq debootstrap
}
mirror=$(grep -rhv '^ *#' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
    grep -oE 'https?://[^ ]+/debian/?' | grep -v security | head -1)
[ -d "$root/etc" ] || debootstrap --variant=minbase trixie "$root" \
    "${mirror:?no Debian mirror among the sources of apt}"
for f in /etc/apt/apt.conf.d/*; do # proxies and mirrors as here
    [ -f "$f" ] && cp "$f" "$root/etc/apt/apt.conf.d/"
done
cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
cleanup() {
    umount "$root/proc" 2>/dev/null || true
    umount "$root/dev" 2>/dev/null || true
}
trap cleanup EXIT
mount -t proc proc "$root/proc" 2>/dev/null || true
mount --bind /dev "$root/dev" 2>/dev/null || true
rm -rf "$root/src" && mkdir "$root/src"
git -C "$here" archive HEAD | tar -x -C "$root/src"
chroot "$root" sh -c "command -v make >/dev/null || {
    apt-get update -qq
    $apt install -y -qq --no-install-recommends make ca-certificates
}
cd /src && make check"
