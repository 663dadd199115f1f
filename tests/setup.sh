#!/usr/bin/env bash
# Install what the tests need of the system and do not find: a command, and the Debian package that brings it.
# Where that cannot be done, the tests that need it are skipped and say so; with CI=true they fail instead.
set -euo pipefail
cd "$(dirname "$0")/.."

needed() {
    cat <<'NEEDED'
chromium chromium
redis-server redis-server
memcached memcached
postgres postgresql
mariadbd mariadb-server
NEEDED
    [ "$debian" -lt 13 ] 2>/dev/null || echo valkey-server valkey-server # packaged from Debian 13 on
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# The tests start servers of their own: those that come with the packages stay off. Debian asks this file before it
# starts one; where there is one already, as in containers, it says the same.
keep_services_off() {
    if [ -e "$policy" ] || ! command -v apt-get >/dev/null; then return; fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null || return 0
    trap 'as_root rm -f "$policy"' EXIT
    as_root chmod 755 "$policy"
}

debian=$(cut -d. -f1 /etc/debian_version 2>/dev/null || true)
policy=/usr/sbin/policy-rc.d
PATH="$PATH:/usr/sbin:/sbin:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')"
while read -r command package; do
    command -v "$command" >/dev/null && continue
    keep_services_off 2>/dev/null
    bash .ci/apt "$package" || echo "Going on without $package." >&2
done < <(needed)
