#!/bin/sh
# Says which Go files gofmt would change.
set -eu
cd "$(dirname "$0")/.."
# Git knows the sources; in an archive without git the folders do.
files=$(git ls-files --cached --others --exclude-standard '*.go' 2>/dev/null || find . -name '*.go' -not -path '*/node_modules/*' -not -path './.cache/*')
# $files is split on purpose: no source has a blank in its name.
# shellcheck disable=SC2086
bad=$(scripts/with-go gofmt -l $files)
[ -z "$bad" ] || { printf 'gofmt would change:\n%s\n' "$bad" >&2; exit 1; }
