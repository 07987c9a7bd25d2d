#!/bin/sh
# Installs what the tests of plugin_bridge compile and run with, on Debian or Ubuntu. Safe to run again.
set -eu

packages="mono-mcs mono-runtime libmono-system-runtime-serialization4.0-cil libmono-system-web-extensions4.0-cil
ca-certificates-mono nunit-console libnunit-cil-dev"

missing=
for package in $packages; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
