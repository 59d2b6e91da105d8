#!/bin/sh
# test-once-more.sh PACKAGE [FLAG…]: runs the tests of a package that measures
# time, with these flags of go test. At most five tests that fail are run once more,
# alone, because a busy machine delays what they measure; a sixth, a panic, a time-out
# or a second failure is final. What passes only alone is named at the end.
set -u
cd "$(dirname "$0")/.." || exit 1
package=$1
shift
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
{
	scripts/with-go go test "$@" "$package" 2>&1
	echo $? >"$log.status"
} | tee "$log"
status=$(cat "$log.status")
rm -f "$log.status"
[ "$status" != 0 ] || exit 0

failed=$(sed -n 's/^--- FAIL: \([A-Za-z0-9_]*\) .*/\1/p' "$log" | sort -u)
count=$(printf '%s\n' "$failed" | grep -c .)
if [ "$count" = 0 ] || [ "$count" -gt 5 ] || grep -qE '^(panic:|fatal error:|WARNING: DATA RACE|goleak:)|hung or terminated' "$log"; then
	exit "$status"
fi
echo
echo "once more, alone:" $failed
scripts/with-go go test "$@" -run "^($(printf '%s' "$failed" | tr '\n' '|'))\$" "$package" || exit $?
echo "FLAKY:" $failed "failed among the others and passed alone in $package"
