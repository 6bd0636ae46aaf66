#!/bin/sh
# Installs the Debian packages that building, testing or checking the sources need, when any is
# missing. Without root or sudo it prints the one line to run and fails.
# usage: tools/install-deps.sh [build|check|lint|pages]
set -eu
build="gcc make pkg-config libc6-dev libdnnl-dev libpng-dev libavformat-dev libavcodec-dev
    libswscale-dev libavutil-dev libcjson-dev libutf8proc-dev libpcre2-dev libexif-dev libstb-dev
    libhiredis-dev"
tests="g++ check ffmpeg pngcheck libsimde-dev redis-tools parallel"
lint="clang-14 clang-format-14 clang-tidy-14 libomp-14-dev cppcheck codespell gcovr"
case ${1:-build} in
build) packages=$build ;;
check) packages="$build $tests" ;;
lint) packages="$build $tests $lint" ;;
pages) packages="$build $tests chromium" ;;
*) echo "usage: tools/install-deps.sh [build|check|lint|pages]" >&2 && exit 2 ;;
esac
if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "this is not Debian or Ubuntu: install what these packages hold:" $packages >&2
    exit 0
fi
missing=
for p in $packages; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
as=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as=sudo
    else
        echo "missing packages; run:" >&2
        echo "  sudo apt-get update && sudo apt-get install -y$missing" >&2
        exit 1
    fi
fi
echo "installing$missing" >&2
$as apt-get update -qq
# shellcheck disable=SC2086
$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
    >/dev/null
