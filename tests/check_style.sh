#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The rules of doc/STYLE that a machine can check. Prints FILE:LINE: what is wrong.
set -u
cd "${srcdir:-$(dirname "$0")/..}" || exit 99
command -v ctags >/dev/null || { echo "no ctags (Debian: universal-ctags)"; exit 77; }
bad=$(mktemp)
trap 'rm -f "$bad"' EXIT

rooms="include src kernels transports perf sim tools tests examples man doc m4 .ci"
mapfile -t all < <(find $rooms -type f 2>/dev/null |
	grep -Ev '/\.deps/|/\.libs/|\.(o|lo|la|log|trs|Po|Plo|fatbin)$|^m4/l(t|ibtool)' |
	grep -Ev '^tests/(golden|corpus|results)/' |
	grep -Ev '^tests/(soak_matrix|soak_churn|soak_uniform|strays_time|many_hosts)$' |
	grep -Ev '^tests/(t|tsan|emu|gpu|fuzz)_[a-z]+$|\.dirstamp$' | sort)
all+=(Makefile.am configure.ac autogen.sh collx.pc.in README .clang-format)
for f in "${all[@]}"; do
	[ -f "$f" ] || { echo "$f:1: no such file"; exit 1; }
done
c_files=() scripts=() pages=()
for f in "${all[@]}"; do
	case $f in
	*.[ch] | *.cu | *.cuh) c_files+=("$f") ;;
	*.sh | tools/* | perf/*-* | perf/strays | .ci/run) scripts+=("$f") ;;
	man/*) pages+=("$f") ;;
	esac
done

# What is built is nowhere among the sources.
git ls-files -z 2>/dev/null | xargs -0r grep -laP '\A\x7fELF' -- 2>/dev/null |
	sed 's/$/:1: a program, under version control/' >>"$bad"

# Every source, script and page begins with the licence.
for f in "${c_files[@]}" "${scripts[@]}" "${pages[@]}" m4/collx_*.m4 Makefile.am configure.ac; do
	head -n 2 "$f" | grep -q 'SPDX-License-Identifier: BSD-3-Clause' || {
		head -n 1 "$f" | grep -q '^\.so ' || echo "$f:1: no SPDX line"
	}
done >>"$bad"

# Lines: at most 100 columns (documents may have wider tables), no blanks at the end,
# tabs before spaces, no leftovers.
left='TO''DO|FIX''ME|XX''X|HA''CK'
awk -v left="(^|[^A-Za-z_])($left)([^A-Za-z_]|\$)" '
	function say(what) { print FILENAME ":" FNR ": " what }
	{
		line = $0
		while ((i = index(line, "\t")))
			line = substr(line, 1, i - 1) substr("        ", 1, 8 - (i - 1) % 8) \
				substr(line, i + 1)
	}
	length(line) > 100 && FILENAME !~ /^(doc|README)/ { say(length(line) " columns") }
	/[ \t]$/ { say("blank at the end of the line") }
	/ \t/ { say("a space before a tab") }
	FILENAME ~ /\.([ch]|cuh?|sh|am)$/ && /^        / { say("indented with spaces") }
	$0 ~ left { say("a leftover note") }' "${all[@]}" >>"$bad"
for f in "${all[@]}"; do
	[ -z "$(tail -c 1 "$f")" ] || echo "$f:$(wc -l <"$f"): no newline at the end"
done >>"$bad"

# Macros: at most 7 lines, and none that changes the flow of its caller.
awk '
	function flush() {
		if (lines > 7) print where ": macro of " lines " lines"
		if (text ~ /(^|[^A-Za-z_])(return|goto|break|continue)([^A-Za-z_]|$)/ &&
		    text !~ /^#define [A-Za-z_]+\([^)]*\)[ \t\\]*static /)
			print where ": a macro that hides control flow"
		lines = 0
	}
	FNR == 1 && lines { flush() }
	lines || /^#[ \t]*define/ {
		if (!lines++) { where = FILENAME ":" FNR; text = "" }
		text = text $0
		if (!/\\$/) flush()
	}' "${c_files[@]}" >>"$bad"

# Functions of at most 70 lines, files of at most 1,000.
{
	ctags -x --_xformat='%{input} %{line} %{end} %{name}' --kinds-C=f --language-force=C \
		$(printf '%s\n' "${c_files[@]}" | grep '\.[ch]$')
	ctags -x --_xformat='%{input} %{line} %{end} %{name}' --kinds-C++=f --language-force=C++ \
		$(printf '%s\n' "${c_files[@]}" | grep '\.cuh*$')
} |
	awk '$3 - $2 + 1 > 70 { print $1 ":" $2 ": " $4 " has " $3 - $2 + 1 " lines" }' >>"$bad"
for f in "${all[@]}"; do
	n=$(wc -l <"$f")
	[ "$n" -le 1000 ] || echo "$f:$n: more than 1,000 lines"
done >>"$bad"

# One table of environment variables.
grep -n '\bgetenv(' $(printf '%s\n' "${c_files[@]}" | grep -E '^(src|kernels|transports)/') |
	grep -v '^src/base/env.c:' |
	sed 's|:\([0-9]*\):.*|:\1: getenv outside src/base/env.c|' >>"$bad"

# No file that the build does not know.
for f in "${c_files[@]}" "${scripts[@]}" "${pages[@]}"; do
	grep -Eq "(^|[[:space:]])($f|${f%.c})([[:space:]]|\$)" Makefile.am ||
		echo "$f:1: not in Makefile.am"
done >>"$bad"

# Every test that doc/CASES names is there.
grep -on '\(trial\|cut\):[A-Za-z0-9-]*\|t_[a-z0-9]*:[a-z0-9_/]*\|tests/[a-z_.]*' doc/CASES |
	while IFS=: read -r line file name; do
		case $file in
		trial) grep -q "{ \"$name\", " tests/trials.c ;;
		cut) grep -q "{ \"$name\", " tests/cut_cases.c ;;
		t_*) grep -q "^Test(${name%/*}, ${name#*/}[,)]" "tests/$file.c" ;;
		*) [ -f "$file" ] ;;
		esac || echo "doc/CASES:$line: no test $file $name"
	done >>"$bad"

for f in "${scripts[@]}"; do
	case $f in *.c | *.h) continue ;; esac
	bash -n "$f" 2>&1 | sed 's/: line \([0-9]*\)/:\1/'
done >>"$bad"
if command -v shellcheck >/dev/null; then
	shellcheck -f gcc -S warning -x -e SC1091,SC2086,SC2046 "${scripts[@]}" >>"$bad"
fi

cat "$bad"
[ ! -s "$bad" ]
