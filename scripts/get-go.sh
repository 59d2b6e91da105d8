#!/bin/sh
# Fetches the Go toolchain that go.mod names into .cache/go, unless one that
# suits is here. It comes as the module golang.org/toolchain through GOPROXY,
# checked against Go's checksum database by the go command and against the sums
# below by us. Debian 12's own Go is too old to switch toolchains, but it can
# download a module: it is unpacked into a temporary folder for that and needs
# neither root nor an installation.
set -eu
. "$(dirname "$0")/lib.sh"

"$ROOT/scripts/with-go" 2>/dev/null && exit 0

version=$(awk '$1 == "go" {print $2}' "$ROOT/go.mod")
arch=$(dpkg --print-architecture 2>/dev/null) || die "Go $version is missing, and only on Debian this script knows how to get it"
case "$version-$arch" in # as Go's checksum database has them
1.26.8-amd64) sum=h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM= ;;
1.26.8-arm64) sum=h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc= ;;
*) die "scripts/get-go.sh pins no Go $version for $arch" ;;
esac

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
if ! command -v go >/dev/null 2>&1; then
	say "fetching Debian's Go, to fetch Go $version with it"
	apt-cache show golang-1.19-go >/dev/null 2>&1 || retry as_root apt-get -o Acquire::Retries=3 -qq update || die "apt-get update did not succeed"
	retry apt-get -o Acquire::Retries=3 -o APT::Sandbox::User=root -qq download golang-1.19-go golang-1.19-src || die "could not download Debian's golang-1.19-go"
	for deb in *.deb; do dpkg -x "$deb" debian; done
	GOROOT="$work/debian/usr/lib/go-1.19"
	PATH="$GOROOT/bin:$PATH"
	export GOROOT PATH
fi
say "fetching Go $version"
mkdir module
cd module
fetch() {
	env GO111MODULE=on GOFLAGS= GOTOOLCHAIN=local GOPATH="$work/gopath" GOCACHE="$work/gocache" \
		go mod download -json "golang.org/toolchain@v0.0.1-go$version.linux-$arch" >../download.json
}
retry fetch || { cat ../download.json >&2; die "could not download the toolchain; is GOPROXY right?"; }
field() { sed -n 's/^[[:space:]]*"'"$1"'": "\(.*\)",\{0,1\}$/\1/p' ../download.json; }
[ "$(field Sum)" = "$sum" ] || die "the toolchain's checksum is $(field Sum), want $sum"

# The module cache keeps files read-only and without the x bit.
mkdir -p "$CACHE/go"
rm -rf "$CACHE/go/$version.new"
cp -R "$(field Dir)" "$CACHE/go/$version.new"
chmod -R u+w "$CACHE/go/$version.new"
find "$CACHE/go/$version.new/bin" "$CACHE/go/$version.new/pkg/tool" -type f -exec chmod a+x {} +
rm -rf "${CACHE:?}/go/$version"
mv "$CACHE/go/$version.new" "$CACHE/go/$version"
unset GOROOT
"$ROOT/scripts/with-go" go version >&2
