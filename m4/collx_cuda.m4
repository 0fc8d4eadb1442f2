# SPDX-License-Identifier: BSD-3-Clause

# CX_FIND_CUDA: sets NVCC to the CUDA compiler, or to nothing.
AC_DEFUN([CX_FIND_CUDA], [
	AC_ARG_WITH([cuda], [AS_HELP_STRING([--with-cuda=DIR],
		[where the CUDA toolkit is @<:@PATH, then /usr/local/cuda@:>@])],
		[], [with_cuda=check])
	NVCC=
	AS_CASE([$with_cuda],
		[no], [],
		[yes|check], [AC_PATH_PROG([NVCC], [nvcc], [], [$PATH:/usr/local/cuda/bin])],
		[AC_PATH_PROG([NVCC], [nvcc], [], [$with_cuda/bin])])
	if test -z "$NVCC" && test "$with_cuda" != no && test "$with_cuda" != check; then
		AC_MSG_ERROR([--with-cuda was given, but there is no nvcc])
	fi
	AC_SUBST([NVCC])
])
