#!/usr/bin/env bash
# Install what the benchmark needs of the system and does not find. Where that cannot be done, a part is left out and
# says so.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/setup.sh
for command in valgrind wrk; do
    command -v "$command" >/dev/null || bash .ci/apt "$command" || echo "Going on without $command." >&2
done
