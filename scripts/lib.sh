# Helpers of the install scripts; sourced, not run. POSIX sh.

ROOT=$(cd "$(dirname "$0")/.." && pwd)
CACHE="$ROOT/.cache"

say() { printf '%s\n' "fenrir: $*" >&2; }
die() { say "$*"; exit 1; }

# entries FILE: the lines of a package list without comments and blanks.
entries() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$1"; }

installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

# missing FILE…: the packages of the lists that are not there.
missing() {
	for list in "$@"; do
		entries "$list" | while read -r package command; do
			if [ -n "$command" ]; then
				command -v "$command" >/dev/null 2>&1 || echo "$package"
			else
				installed "$package" || echo "$package"
			fi
		done
	done | sort -u | tr '\n' ' '
}

# as_root CMD…: runs it as root, with sudo where we are not.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo $(sudo_flags) env DEBIAN_FRONTEND=noninteractive "$@"
	fi
}

# sudo_flags: sudo may ask for a password where somebody can answer.
sudo_flags() { [ -t 0 ] || printf '%s' -n; }

may_root() {
	[ "$(id -u)" = 0 ] || { command -v sudo >/dev/null 2>&1 && sudo $(sudo_flags) true 2>/dev/null; }
}

# retry CMD…: mirrors hiccup; three tries.
retry() {
	for pause in 3 10 0; do
		if "$@"; then return 0; fi
		[ "$pause" = 0 ] || { say "trying again in $pause s: $*"; sleep "$pause"; }
	done
	return 1
}

# need_packages FILE…: installs what is missing of the lists, and nothing else.
need_packages() {
	command -v dpkg-query >/dev/null 2>&1 || die "this is no Debian: install what $(printf '%s ' "$@") list by your system's names, then run the build by hand (docs/install.md)"
	want=$(missing "$@")
	[ -n "${want% }" ] || return 0
	if ! may_root; then
		die "these packages are missing, and we are neither root nor may use sudo:
    $want
  Let an administrator run:
    apt-get install --no-install-recommends $want"
	fi
	say "installing: $want"
	DEBIAN_FRONTEND=noninteractive
	export DEBIAN_FRONTEND
	retry as_root apt-get -o Acquire::Retries=3 -qq update || die "apt-get update did not succeed"
	# $want is split on purpose: one word a package.
	# shellcheck disable=SC2086
	log=$(mktemp)
	retry as_root apt-get -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install $want >"$log" 2>&1 || {
		tail -n 30 "$log" >&2
		die "apt-get could not install: $want"
	}
	rm -f "$log"
	want=$(missing "$@")
	[ -z "${want% }" ] || die "still missing after the installation: $want"
}
