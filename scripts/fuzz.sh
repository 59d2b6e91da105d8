#!/bin/sh
# fuzz.sh TIME: runs every fuzz target for TIME, one after the other.
set -eu
cd "$(dirname "$0")/.."
time=${1:-30s}
targets=$(grep -rn --include='*_test.go' -oE '^func Fuzz[A-Za-z0-9_]+\(f \*testing\.F\)' . --exclude-dir=node_modules --exclude-dir=.cache | sed -E 's|^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]+).*|\1 \2|' | sort -u)
[ -n "$targets" ] || { echo "no fuzz targets found" >&2; exit 1; }
count=0
while read -r folder target; do
	echo "== $folder $target"
	scripts/with-go go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$folder"
	count=$((count + 1))
done <<END
$targets
END
echo "fuzz: $count targets ran $time each and found nothing"
