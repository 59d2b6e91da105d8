#!/bin/sh
# Installs what building and running Fenrir need and what is not there yet:
# Debian packages (as root or with sudo) and Go (into .cache, without root).
# It is done in a blink when all is there.
set -eu
. "$(dirname "$0")/lib.sh"
need_packages "$ROOT/scripts/packages-run.txt" "$ROOT/scripts/packages-build.txt"
"$ROOT/scripts/get-go.sh"
