#!/usr/bin/env bash
# Install what the tests need of the system and do not find: a command, and the Debian package that brings it.
# Where that cannot be done, the tests that need it are skipped and say so; with CI=true they fail instead.
set -euo pipefail
cd "$(dirname "$0")/.."

while read -r command package; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null ||
        bash .ci/apt "$package" ||
        echo "Going on without $package." >&2
done <<'NEEDED'
chromium chromium
NEEDED
