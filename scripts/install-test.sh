#!/bin/sh
# Installs what the tests need and what is not there yet: all that running
# needs, a browser, node, the driver that drives the browser, a WHEP client that
# is not ours, a real game, and the tools that check the page.
set -eu
. "$(dirname "$0")/lib.sh"

# The Debian package of the game that the e2e tests play.
GAME=pingus

"$ROOT/scripts/install-run.sh"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
{ entries "$ROOT/scripts/packages-test.txt"; echo "$GAME"; } >"$list"
need_packages "$list"

node=$(node --version)
case "$node" in
v1[0-7].* | v[0-9].*) die "node $node is too old, the tests need 18 or newer" ;;
esac

# unpack FOLDER NAME VERSION INTEGRITY: .cache/FOLDER/package holds that npm package,
# whose hash npm checked against the registry's and we check against ours.
unpack() {
	folder="$CACHE/$1"
	[ "$(cat "$folder/integrity" 2>/dev/null)" = "$4" ] && return 0
	say "fetching $2@$3"
	new="$folder.new"
	rm -rf "$new"
	mkdir -p "$new"
	tarball=$(cd "$new" && retry npm pack --silent "$2@$3") || die "npm could not fetch $2@$3"
	got=sha512-$(node -e 'const{createHash}=require("crypto"),{readFileSync}=require("fs");process.stdout.write(createHash("sha512").update(readFileSync(process.argv[1])).digest("base64"))' "$new/$tarball")
	[ "$got" = "$4" ] || die "$2@$3 has the hash $got, want $4"
	tar -xzf "$new/$tarball" -C "$new"
	rm "$new/$tarball"
	echo "$4" >"$new/integrity"
	rm -rf "$folder"
	mv "$new" "$folder"
}
unpack playwright playwright-core 1.52.0 sha512-l2osTgLXSMeuLZOML9qYODUQoPPnUsKsb5/P6LJ2e6uPKXUdPK5WYhN4z03G+YNbWmGDY4YENauNu4ZKczreHg==
unpack whip-whep whip-whep 1.2.0 sha512-CP+Tht3O/N6QLebW5LxsNKgzFN5KX6WinLr1SLs74feagYu+Gqy+0dw48p5RQuE+FlrM4xyOlOdW2UOQwljImA==

# The page has no runtime dependencies; these are its type checker and types.
lock=$(cksum <"$ROOT/web/package-lock.json")
if [ "$(cat "$ROOT/web/node_modules/.fenrir-lock" 2>/dev/null)" != "$lock" ]; then
	say "fetching the page's type checker"
	(cd "$ROOT/web" && retry npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || die "npm ci did not succeed"
	echo "$lock" >"$ROOT/web/node_modules/.fenrir-lock"
fi
