# SPDX-License-Identifier: BSD-3-Clause

# CX_FIND_CUDA: sets have_cuda, NVCC, CUDA_CPPFLAGS (for cuda.h) and CUDA_GENCODE. The
# library is linked with nothing of CUDA; see kernels/cuda/.
AC_DEFUN([CX_FIND_CUDA], [
	AC_ARG_ENABLE([cuda], [AS_HELP_STRING([--disable-cuda], [leave the GPU kernels out])])
	AC_ARG_WITH([cuda], [AS_HELP_STRING([--with-cuda=DIR],
		[where the CUDA toolkit is @<:@PATH, then /usr/local/cuda@:>@])],
		[], [with_cuda=check])
	AC_ARG_WITH([cuda-arch], [AS_HELP_STRING([--with-cuda-arch=LIST],
		[compute capabilities to build for; the last also as PTX @<:@"80 90"@:>@])],
		[], [with_cuda_arch="80 90"])
	AS_CASE([$with_cuda_arch], [yes|no|""|*@<:@!0-9\ ,@:>@*],
		[AC_MSG_ERROR([--with-cuda-arch takes a list such as "80 90"])])
	NVCC= have_cuda=no
	test "$with_cuda" != no || enable_cuda=no
	if test "$enable_cuda" = no; then
		cuda_state="no, as asked for"
	else
		AS_CASE([$with_cuda],
			[yes|check],
			[AC_PATH_PROG([NVCC], [nvcc], [], [$PATH:/usr/local/cuda/bin])],
			[AC_PATH_PROG([NVCC], [nvcc], [], [$with_cuda/bin])])
		cuda_state="no nvcc"
		test -z "$NVCC" || CX_TRY_CUDA
		if test "$have_cuda" = no && test "$enable_cuda$with_cuda" != check; then
			AC_MSG_ERROR([CUDA was asked for: $cuda_state])
		fi
	fi
	AM_CONDITIONAL([HAVE_CUDA], [test "$have_cuda" = yes])
	AC_SUBST([NVCC])
	AC_SUBST([CUDA_CPPFLAGS])
	AC_SUBST([CUDA_GENCODE])
])

# CX_TRY_CUDA: does NVCC compile for these architectures, and is there a cuda.h?
AC_DEFUN([CX_TRY_CUDA], [
	CUDA_GENCODE= CUDA_CPPFLAGS=
	for cx_arch in `echo "$with_cuda_arch" | tr ',' ' '`; do
		CUDA_GENCODE="$CUDA_GENCODE -gencode arch=compute_$cx_arch,code=sm_$cx_arch"
	done
	CUDA_GENCODE="$CUDA_GENCODE -gencode arch=compute_$cx_arch,code=compute_$cx_arch"

	cx_include=`dirname "$NVCC"`/../include
	test ! -f "$cx_include/cuda.h" || CUDA_CPPFLAGS="-isystem $cx_include"
	cx_saved_cppflags=$CPPFLAGS
	CPPFLAGS="$CPPFLAGS $CUDA_CPPFLAGS"
	AC_CHECK_HEADER([cuda.h], [cx_header=yes], [cx_header=no])
	CPPFLAGS=$cx_saved_cppflags

	AC_MSG_CHECKING([whether $NVCC compiles for $with_cuda_arch])
	cat >conftest.cu <<'END'
__global__ void nothing(void) {}
END
	if "$NVCC" $CUDA_GENCODE --fatbin -o conftest.fatbin conftest.cu \
		>&AS_MESSAGE_LOG_FD 2>&1; then
		cx_compiles=yes
	else
		cx_compiles=no
	fi
	rm -f conftest.cu conftest.fatbin
	AC_MSG_RESULT([$cx_compiles])

	AS_CASE([$cx_header$cx_compiles],
		[yesyes], [have_cuda=yes; cuda_state="$NVCC for $with_cuda_arch"],
		[no*], [cuda_state="no cuda.h beside $NVCC"],
		[cuda_state="$NVCC does not compile for $with_cuda_arch; see config.log"])
])

# CX_FIND_EMULATION: sets EMU_CXX to a C++ compiler that the CUDA kernels can be run on the
# CPU with (tests/cuda_emu.h), or to nothing. It need not be the one that builds the library.
AC_DEFUN([CX_FIND_EMULATION], [
	AC_MSG_CHECKING([for a C++ compiler that instruments memory accesses])
	EMU_CXX=
	for cx_cxx in g++ clang++ c++; do
		cat >conftest.cc <<'END'
int f(volatile int *p) { return *p; }
END
		if test -z "$EMU_CXX" &&
		   $cx_cxx -std=c++17 -O1 -fsanitize=thread -S -o conftest.s conftest.cc \
			2>&AS_MESSAGE_LOG_FD && grep __tsan_ conftest.s >/dev/null; then
			EMU_CXX=$cx_cxx
		fi
		rm -f conftest.cc conftest.s
	done
	AC_MSG_RESULT([${EMU_CXX:-none}])
	AS_CASE([$EMU_CXX],
		[clang*], [EMU_CXXFLAGS="-mllvm -tsan-distinguish-volatile=1"],
		[EMU_CXXFLAGS="--param tsan-distinguish-volatile=1"])
	# The loader's double needs cuda.h; ThreadSanitizer's runtime has the emulation's symbols.
	AM_CONDITIONAL([HAVE_EMULATION],
		[test -n "$EMU_CXX" && test "$have_cuda" = yes && test "$enable_tsan" != yes])
	AC_SUBST([EMU_CXX])
	AC_SUBST([EMU_CXXFLAGS])
])
