# SPDX-License-Identifier: BSD-3-Clause

# CX_FIND_PMIX: pmix.h for src/kvs_pmix.c; the library itself is loaded at run time. Its
# headers come as system headers: their warnings are not ours.
AC_DEFUN([CX_FIND_PMIX], [
	PKG_CHECK_MODULES([PMIX], [pmix >= 3.0], [have_pmix=yes], [have_pmix=no])
	if test "$have_pmix" = yes; then
		cx_dirs=
		for cx_flag in $PMIX_CFLAGS; do
			case $cx_flag in
			-I/usr/include) ;;
			-I*) cx_dirs="$cx_dirs -isystem ${cx_flag#-I}" ;;
			*) cx_dirs="$cx_dirs $cx_flag" ;;
			esac
		done
		PMIX_CFLAGS="-DCX_HAVE_PMIX$cx_dirs"
	fi
	AC_SEARCH_LIBS([dlopen], [dl])
])
