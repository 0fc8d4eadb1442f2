#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Is tools/gpu-check ready to run? The bundle is made, unpacked and run with nothing around it:
# where there is no GPU it must say so; and with the driver's double, which runs the kernels by
# the emulation, both parts must pass and leave one JSON file. Runs in the build folder.
set -eu
src=$(cd "${srcdir:-$(dirname "$0")/..}" && pwd)
[ -n "${EMU_CXX:-}" ] || { echo "no C++ compiler for the emulation (Debian: g++)"; exit 77; }
[ -x tests/emu_kernels ] || { echo "no GPU kernels in this build"; exit 77; }
case "${CX_CFLAGS:-}" in *sanitize*) echo "no GPU bundle of a sanitizer"; exit 77 ;; esac
command -v python3 >/dev/null || { echo "no python3 to read the result"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

die() { echo "$*"; exit 1; }

# ---- a libcuda.so.1 that has the emulation in it; gpu_bench's launches do nothing ----

mkdir "$dir/driver"
cat >"$dir/driver/hooks.c" <<'END'
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#define CUDA_EMU_NO_NAMES
#include "tests/cuda_emu.h"
#include "tests/fake_libcuda.h"

static void *find(const char *name)
{
	return (void *)(uintptr_t)emu_find_kernel(name);
}

static size_t args_len(void *function)
{
	return ((const struct emu_kernel *)function)->args_len;
}

static int launch(const struct fake_launch *l)
{
	struct emu_launch run = {l->function, l->grid, l->block, l->shared, l->args};

	if (!strcmp(program_invocation_short_name, "gpu_bench") || emu_run(&run) == 0)
		return 0;
	fprintf(stderr, "%s\n", emu_fault());
	return 719;
}

static int is_device(const void *p)
{
	return emu_find(p, NULL) != NULL;
}

__attribute__((constructor)) static void begin(void)
{
	fake_libcuda.hooks = (struct fake_hooks){find, args_len, launch, emu_alloc, emu_free,
						 is_device};
}
END
# What a program begins with, for the constants of the kernels, has another name here.
objects=()
cuda=$(sed -n 's/^CUDA_CPPFLAGS = //p' Makefile)
for f in hooks tests/cuda_emu tests/cuda_emu_mem tests/fake_libcuda; do
	[ "$f" = hooks ] && f=$dir/driver/hooks || f=$src/$f
	objects+=("$dir/driver/$(basename "$f").o")
	# shellcheck disable=SC2086
	${CC:-cc} -std=gnu11 -O2 -fPIC -I"$src" -I"$src/src/base" -I"$src/include" $cuda -w \
		-D__executable_start=__ehdr_start \
		-c -o "${objects[-1]}" "$f.c"
done
for u in codec fuse fold topk sparse; do
	objects+=("$dir/driver/$u.o")
	# shellcheck disable=SC2086
	$EMU_CXX -x c++ -std=c++17 -O1 -fsanitize=thread $EMU_CXXFLAGS -ffp-contract=off \
		-fno-exceptions -fno-rtti -fPIC -w -I"$src/include" -I"$src" \
		-include "$src/tests/cuda_emu.h" -c -o "${objects[-1]}" "$src/kernels/cuda/$u.cu"
done
${CC:-cc} -shared -o "$dir/driver/libcuda.so.1" "${objects[@]}" -lm -Wl,-Bsymbolic

# ---- the bundle ----

make -s gpu-bundle >"$dir/log" 2>&1 || die "make gpu-bundle: $(tail -n 3 "$dir/log")"
tail -n 1 "$dir/log"
mkdir "$dir/there"
tar xzf gpu-bundle.tar.gz -C "$dir/there"
cd "$dir/there/gpu-bundle"
bare=(env -i "PATH=/usr/bin:/bin" "HOME=$dir")

rc=0
"${bare[@]}" ./gpu-check test out0 >"$dir/log" 2>&1 || rc=$?
if [ $rc != 77 ] && [ ! -e /dev/nvidia0 ]; then
	die "without a GPU: status $rc: $(tail -n 3 "$dir/log")"
fi
[ $rc != 77 ] || grep -q 'no GPU: CUDA: ..' "$dir/log" || die "it does not say why"

mkdir "$dir/tools"
cat >"$dir/tools/nvidia-smi" <<'END'
#!/bin/sh
case $1 in
-L) echo 'GPU 0: Double "quoted" \ (UUID: none)' ;;
*=name) echo 'Double "quoted" \ 1' ;;
*=compute_cap) echo 9.0 ;;
*) echo '1, 2' ;;
esac
END
cat >"$dir/tools/compute-sanitizer" <<'END'
#!/bin/sh
[ "$1" = --tool ] || { echo "Version 0 of the double"; exit 1; }
while [ "${1#--}" != "$1" ]; do shift 2; done
exec "$@"
END
printf '#!/bin/sh\nexit 1\n' >"$dir/tools/nvcc" # CUB takes too long for a test
chmod +x "$dir"/tools/*
bare=(env -i "PATH=$dir/tools:/usr/bin:/bin" "HOME=$dir" "LD_LIBRARY_PATH=$dir/driver"
	GPU_CHECK_MIB=4 GPU_CHECK_MOST=9000 GPU_CHECK_SECONDS=2 GPU_CHECK_LEAST=3)
for part in test bench; do
	"${bare[@]}" ./gpu-check $part out >"$dir/log" 2>&1 || die "$part: $(cat "$dir/log")"
done
ls out/gpu-Double-quoted-1-*.json >/dev/null || die "no result: $(ls out)"
# What lends machines returns few files.
[ "$(find out -type f | wc -l)" = 3 ] || die "more than the result and two logs: $(ls out)"
python3 - out/gpu-*.json <<'END'
import json
import sys

(name,) = sys.argv[1:]
with open(name, encoding="utf-8") as f:
    all = json.load(f)
kinds = ["bytes_" + kind for kind in ("capture", "api", "codec", "fold", "topk", "sparse")]
for key in ["loads_as_built", "memcheck", "racecheck", "initcheck", "synccheck"] + kinds:
    assert all["tests"].pop(key) == 0, all["tests"]
assert not all["tests"], all["tests"]
assert all["bench"] == {"bench_large": 0, "bench_small": 0}, all["bench"]
assert all["device"] and all["driver"] and all["commit"] and all["date"], all
for size in ("large", "small"):
    assert len(all[size]["kernels"]) > 15 and all[size]["elements"] > 0, size
print(len(all["large"]["kernels"]), "kernels in", name)
END
