#!/bin/bash
# Installs the identity providers of the end-to-end tests on a bare Debian 12, as root. Safe to run again.
#
#   SimpleSAMLphp  from Debian; served by PHP's own web server, so apache2, a dependency of the package, stays off
#   samlp          from npm, exactly as in samlp/package-lock.json (the library behind Auth0's SAML responses)
#   xmlsec1        an independent verifier of XML signatures
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'install-idps: %s\n' "$*"; }
fail() { printf 'install-idps: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || fail 'run as root: Debian packages are installed'
command -v apt-get >/dev/null || fail 'apt-get is missing: this script is for Debian 12'

packages=(ca-certificates php-cli php-sqlite3 php-xml php-mbstring php-curl simplesamlphp xmlsec1)
if node --version >/dev/null 2>&1 && npm --version >/dev/null 2>&1; then
    say "node $(node --version) and npm $(npm --version) are there"
else
    packages+=(nodejs npm)
fi

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done

# Debian starts a service as it is installed and again at boot; policy-rc.d is asked at installation.
policy=/usr/sbin/policy-rc.d
own_policy=
cleanup() { if [ -n "$own_policy" ]; then rm -f "$policy"; fi; }
trap cleanup EXIT

if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    if [ ! -e "$policy" ]; then
        own_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || fail 'apt-get update failed: check the network and /etc/apt/sources.list'
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "apt-get could not install: ${missing[*]}"
    if [ -d /run/systemd/system ]; then
        systemctl disable --now apache2 >/dev/null 2>&1 || true
    fi
else
    say 'all Debian packages are there'
fi

[ -r /usr/share/simplesamlphp/www/index.php ] || fail 'simplesamlphp is not at /usr/share/simplesamlphp'
say "$(php --version | head -n 1)"

lock=$here/samlp/package-lock.json
stamp=$here/samlp/node_modules/.installed-lock
if cmp -s "$lock" "$stamp"; then
    say 'samlp is there as locked'
else
    say 'installing samlp as locked'
    npm ci --prefix "$here/samlp" --ignore-scripts --no-audit --no-fund --loglevel=error ||
        fail 'npm ci failed: check the network and the npm configuration'
    cp "$lock" "$stamp"
fi

(cd "$here/samlp" && node -e "require('samlp'); require('express')") || fail 'samlp does not load in this node'
say 'done'
