# SPDX-License-Identifier: BSD-3-Clause

# CX_CHECK_X86(NAME, FLAGS, MACROS): sets have_NAME on x86-64, where the compiler defines
# the macros with the flags; then kernels/*_NAME.c are built.
AC_DEFUN([CX_CHECK_X86], [
	AC_MSG_CHECKING([for x86-64 with $2])
	cx_saved_cflags=$CFLAGS
	CFLAGS="$CFLAGS $2"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
		#if !defined(__x86_64__) || !($3)
		#error no
		#endif
		#include <immintrin.h>
	]], [])], [have_$1=yes], [have_$1=no])
	CFLAGS=$cx_saved_cflags
	AC_MSG_RESULT([$have_$1])
])

# CX_CHECK_C11: stop here rather than in the middle of a build.
AC_DEFUN([CX_CHECK_C11], [
	AC_MSG_CHECKING([for C11 with lock-free 64-bit atomics])
	cx_saved_cflags=$CFLAGS
	CFLAGS="$CFLAGS -std=c11"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
		#include <stdatomic.h>
		_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "lock-free");
		static _Thread_local _Atomic long long x;
	]], [[return (int)atomic_load_explicit(&x, memory_order_acquire);]])],
		[AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no]); AC_MSG_ERROR([a C11 compiler is needed])])
	CFLAGS=$cx_saved_cflags
])

# CX_BUILD_KINDS: --enable-werror, -asan, -tsan, -fuzz, -coverage into CX_CFLAGS.
AC_DEFUN([CX_BUILD_KINDS], [
	AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [warnings are errors])])
	AC_ARG_ENABLE([asan], [AS_HELP_STRING([--enable-asan],
		[AddressSanitizer and UndefinedBehaviorSanitizer])])
	AC_ARG_ENABLE([tsan], [AS_HELP_STRING([--enable-tsan], [ThreadSanitizer])])
	AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [gcov])])
	AC_ARG_ENABLE([fuzz], [AS_HELP_STRING([--enable-fuzz],
		[fuzz targets for clang's libFuzzer, with both sanitizers])])
	CX_CFLAGS=
	build_kind=plain
	if test "$enable_asan$enable_tsan" = yesyes; then
		AC_MSG_ERROR([--enable-asan and --enable-tsan do not go together])
	fi
	if test "$enable_asan" = yes; then
		CX_CFLAGS="-g -fsanitize=address,undefined -fno-omit-frame-pointer"
		CX_CFLAGS="$CX_CFLAGS -fno-sanitize-recover=undefined"
		build_kind="AddressSanitizer and UndefinedBehaviorSanitizer"
	fi
	if test "$enable_tsan" = yes; then
		CX_CFLAGS="-g -fsanitize=thread -fno-omit-frame-pointer"
		build_kind="ThreadSanitizer"
	fi
	if test "$enable_fuzz" = yes; then
		CX_CFLAGS="-g -fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer"
		CX_CFLAGS="$CX_CFLAGS -fno-sanitize-recover=undefined"
		build_kind="libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer"
	fi
	AM_CONDITIONAL([FUZZ], [test "$enable_fuzz" = yes])
	if test "$enable_coverage" = yes; then
		CX_CFLAGS="$CX_CFLAGS -g --coverage"
		build_kind="$build_kind with coverage"
	fi
	if test "$enable_werror" = yes; then
		CX_CFLAGS="$CX_CFLAGS -Werror"
		build_kind="$build_kind, warnings are errors"
	fi
	AC_SUBST([CX_CFLAGS])
])
