#!/bin/sh
# The Debian 12 packages each task needs. Prints and installs what is missing; says and does nothing when all is there.
# Usage: tools/packages.sh run|test|dev|ci        (run, test, dev: each includes the ones before; ci: test and what trains the demo models)
set -eu

run="gcc libc6-dev cmake ninja-build pkg-config libevent-dev libssl-dev libjansson-dev libsqlite3-dev libutf8proc-dev
     libmd4c-dev libxml2-dev libstemmer-dev libedit-dev libxxhash-dev libzstd-dev poppler-utils jq curl"
test="libcmocka-dev bats python3-venv mandoc"
dev="clang clang-format libclang-rt-14-dev llvm gcovr"
train="python3 python3-torch python3-numpy libopenblas0-pthread"

case ${1:-} in
run) wanted=$run ;;
test) wanted="$run $test" ;;
dev) wanted="$run $test $dev" ;;
ci) wanted="$run $test $train" ;;
*)
    echo "usage: tools/packages.sh run|test|dev|ci" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "This is not a Debian system; needed are the counterparts of: $(echo $wanted)" >&2
    exit 0
fi

missing=
for package in $wanted; do
    case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) in
    installed*) ;;
    *) missing="$missing $package" ;;
    esac
done
if [ -z "$missing" ]; then
    exit 0
fi

as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Missing Debian packages:$missing" >&2
        echo "Install them as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
$as_root apt-get install -q -y --no-install-recommends $missing
