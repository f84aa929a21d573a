"""Prints src/kernel.h: Lanczos' kernel with three lobes as integers, at the only points that whole factors need.

The kernel is sinc(x)·sinc(x/3) for |x| < 3. For factor f it is needed at x = n/2f, n = 0 … 6f-1; values carry 30 bits
after the point. Run: `python make_kernel.py > src/kernel.h`. A test compares the file with this output.
"""

from __future__ import annotations

import math

LOBES = 3
FACTORS = range(2, 9)
ONE = 1 << 30


def sinc(x: float) -> float:
    """sin(πx)/πx, and 1 at 0."""
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def kernel_row(factor: int) -> list[int]:
    """The kernel at n/2f for n = 0 … 6f-1, times 2^30."""
    points = (n / (2 * factor) for n in range(2 * LOBES * factor))
    return [round(ONE * sinc(x) * sinc(x / LOBES)) for x in points]


def header_text() -> str:
    """The whole C header."""
    width = 2 * LOBES * FACTORS[-1]
    lines = ["/* Made by make_kernel.py: do not edit. */", f"static const i32 lanczos3[{len(FACTORS)}][{width}] = {{"]
    for factor in FACTORS:
        row = kernel_row(factor)
        body = [", ".join(map(str, row[start : start + 8])) for start in range(0, len(row), 8)]
        lines.append("    {" + ",\n     ".join(body) + "},")
    return "\n".join([*lines, "};", ""])


if __name__ == "__main__":
    print(header_text(), end="")  # noqa: T201 - this script's output is its purpose
