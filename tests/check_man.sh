#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Every public symbol has a page whose SYNOPSIS compiles; every option of a tool and every
# environment variable is in its page; pages are clean. Runs in the build folder.
set -u
src=${srcdir:-$(dirname "$0")/..}
command -v mandoc >/dev/null || { echo "no mandoc (Debian: mandoc)"; exit 77; }
bad=0
say() { echo "$1"; bad=1; }
render() { mandoc -T ascii -O width=900 "$1" | sed 's/.\x08//g'; }
section() { awk -v name="$1" '/^[A-Z]/ { on = ($0 == name); next } on'; }

for page in "$src"/man/*.[1-9]; do
	[ -e "$page" ] || { say "man:1: no pages"; break; }
	head -n 1 "$page" | grep -q '^\.so ' && continue
	out=$(mandoc -T lint -W warning "$page" 2>&1) || {
		sed 's/^mandoc: //' <<<"$out"
		bad=1
	}
done

for symbol in $(sed -n '/^global:/,/^local:/s/^[[:space:]]*\([a-z_0-9]*\);.*/\1/p' \
	"$src/src/collx.map"); do
	page=$src/man/$symbol.3
	[ -f "$page" ] || { say "src/collx.map:1: $symbol has no page man/$symbol.3"; continue; }
	target=$(sed -n '1s/^\.so //p' "$page")
	[ -z "$target" ] || page=$src/man/${target#man3/}
	[ -f "$page" ] || { say "man/$symbol.3:1: no such page: $target"; continue; }
	render "$page" | section SYNOPSIS | grep -q "\b$symbol(" ||
		say "$page:1: $symbol is not in its SYNOPSIS"
done

# A prototype that differs from the header's does not compile beside it.
for page in "$src"/man/*.3; do
	[ -e "$page" ] || continue
	head -n 1 "$page" | grep -q '^\.so ' && continue
	out=$(render "$page" | section SYNOPSIS |
		${CC:-cc} -x c -std=c11 -fsyntax-only -Wall -Werror -I"$src/include" - 2>&1) || {
		say "$page:1: its SYNOPSIS does not compile"
		sed 's/^/    /' <<<"$out" | head -n 10
	}
done

for tool in collx-run collx-perf collx-info collx-sim; do
	page=$src/man/$tool.1
	[ -f "$page" ] || { say "man:1: no page $tool.1"; continue; }
	text=$(render "$page")
	for option in $("./$tool" --help 2>&1 | grep -Eo '(^|[[:space:],[(|])--?[a-zA-Z][-a-z]*' |
		grep -Eo -- '--?[a-zA-Z].*' | sort -u); do
		grep -Fqw -e "$option" <<<"$text" || say "$page:1: $option is not described"
	done
done

page=$src/man/collx_env.7
for name in $(./collx-info env | grep -Eo '^COLLX_[A-Z_]+' | sort -u); do
	grep -qw "$name" "$page" || say "$page:1: $name is not described"
done
# A line of it may end in a report that others read.
for how in '' env; do
	# shellcheck disable=SC2086
	! COLLX_SECRET=0123456789abcdef ./collx-info $how | grep -q 0123456789abcdef ||
		say "perf/info.c:1: 'collx-info $how' tells the secret"
done
./collx-info env | grep -q '^COLLX_' || say "perf/info.c:1: 'collx-info env' lists nothing"
exit $bad
