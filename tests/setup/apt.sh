#!/bin/sh
# apt.sh PACKAGE...: installs those Debian packages that are missing.
# Not root or not on Debian it only says what is missing: the tests that need it skip.
set -eu

if ! command -v apt-get > /dev/null; then
    echo "not on Debian, so not looking for its packages: $*" >&2
    exit 0
fi

missing=
for package; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2> /dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "not root, so not installing the missing Debian packages:$missing" >&2
    exit 0
fi

echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
# A foreign source that does not answer is no reason to stop: the installation tells whether it matters.
apt-get -qq update || true
# shellcheck disable=SC2086 # one word per package
apt-get -qq --yes --no-install-recommends -o DPkg::Lock::Timeout=120 install $missing > /dev/null
