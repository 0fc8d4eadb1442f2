# SPDX-License-Identifier: BSD-3-Clause
"""gpu_torch.py MIB ROUNDS FILE: what PyTorch takes for what our kernels do, on as much data as
gpu_bench. In each round a copy on the device is timed and then each of them; the best counts.
Quantization is what one writes in PyTorch; it is not compiled, nor the same bytes as ours."""
import json
import sys

import torch

mib, rounds, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if not torch.cuda.is_available():
    sys.exit(77)
n = (mib << 18) // 16384 * 16384
x, y, z = (torch.randn(n, device="cuda") * 1e-3 for _ in range(3))
hx, hy, hz = x.bfloat16(), y.bfloat16(), z.bfloat16()
residual = torch.zeros(n, device="cuda")
k = n // 100


def quantize(a):
    blocks = a.view(-1, 32)
    scale = (blocks.abs().amax(1, keepdim=True) / 127).bfloat16()
    q = torch.round(blocks / scale.float().clamp_min(1e-38)).clamp_(-127, 127).to(torch.int8)
    return q, scale


def dequantize(q, scale):
    return q.float() * scale.float()


def topk():
    acc = x + residual
    index = torch.topk(acc.abs(), k, sorted=False).indices
    values = acc[index]
    acc[index] = 0
    return values, acc


encoded = quantize(x)
cases = {
    "copy": lambda: z.copy_(x),
    "reduce 2 float": lambda: torch.add(x, y, out=z),
    "reduce 2 bfloat16": lambda: torch.add(hx, hy, out=hz),
    "quantize float q8": lambda: quantize(x),
    "dequantize q8 float": lambda: dequantize(*encoded),
    "top-k 1%": topk,
}
start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
best = {}
for turn in range(rounds + 1):
    for name, run in cases.items():
        start.record()
        result = run()
        end.record()
        end.synchronize()
        del result
        if turn:  # the first one warms up
            best[name] = min(best.get(name, 1e9), start.elapsed_time(end))
for name, ms in best.items():
    print(f"{name:30} {ms:9.4f} ms")
with open(out, "w", encoding="utf-8") as f:
    json.dump({"torch": torch.__version__, "elements": n,
               "kernels": [{"kernel": name, "ms": ms} for name, ms in best.items()]}, f)
