#!/bin/sh
# fuzz.sh TIME: runs every fuzz target for TIME, one after the other.
set -eu
cd "$(dirname "$0")/.."
time=${1:-30s}
targets=$(grep -rn --include='*_test.go' -oE '^func Fuzz[A-Za-z0-9_]+\(f \*testing\.F\)' . --exclude-dir=node_modules --exclude-dir=.cache | sed -E 's|^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]+).*|\1 \2|' | sort -u)
[ -n "$targets" ] || { echo "no fuzz targets found" >&2; exit 1; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
fuzz() {
	echo "== $1 $2"
	if scripts/with-go go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" "$1" >"$log" 2>&1; then
		tail -n 3 "$log"
		return 0
	fi
	cat "$log"
	return 1
}
# The end of -fuzztime can be reported as a failure of the target, without an
# input that fails (golang/go#75804, until Go 1.27): such a run is done again, once.
spurious() { grep -qx '    context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic|hung or terminated' "$log"; }
count=0
while read -r folder target; do
	fuzz "$folder" "$target" || { spurious && fuzz "$folder" "$target"; } || exit 1
	count=$((count + 1))
done <<END
$targets
END
echo "fuzz: $count targets ran $time each and found nothing"
