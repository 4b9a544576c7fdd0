"""Shapes for the exercises on convolution, chosen so that mistakes show.

N, H, W, KH, KW, C_in and C_out all differ wherever they can, and so do the two strides and the two paddings: equal
numbers hide exchanged axes. The last leaves rows over that no output reads.
"""

# (label, shape of x, shape of w, stride, padding)
CONVOLUTIONS = (
    ("one pixel wide kernel", (1, 4, 5, 2), (1, 1, 2, 3), (1, 1), (0, 0)),
    ("3 x 2 kernel, no padding", (2, 4, 5, 3), (3, 2, 3, 4), (1, 1), (0, 0)),
    ("padding (1, 2)", (2, 4, 5, 3), (3, 2, 3, 4), (1, 1), (1, 2)),
    ("higher than wide, stride (2, 1)", (2, 8, 5, 3), (2, 3, 3, 4), (2, 1), (0, 0)),
    ("stride (2, 3), padding (2, 1), rows left over", (2, 6, 9, 3), (3, 2, 3, 4), (2, 3), (2, 1)),
)
# (label, shape of x, shape of w as (KH, KW, C_out, C_in), stride, padding, output padding)
TRANSPOSED = (
    ("2 x 2 patches, as in a U-Net", (2, 5, 3, 3), (2, 2, 2, 3), (2, 2), (0, 0), (0, 0)),
    ("3 x 2 kernel, stride 1: copies overlap", (2, 3, 4, 3), (3, 2, 2, 3), (1, 1), (0, 0), (0, 0)),
    ("padding (2, 1)", (2, 4, 5, 3), (3, 4, 2, 3), (1, 1), (2, 1), (0, 0)),
    ("padding (0, 1)", (1, 2, 4, 2), (2, 3, 3, 2), (1, 1), (0, 1), (0, 0)),
    ("stride (2, 3), padding (1, 0), output padding (1, 2)", (2, 3, 4, 3), (3, 2, 4, 3), (2, 3), (1, 0), (1, 2)),
)
# (label, shape of x, window, stride, padding)
POOLINGS = (
    ("2 x 2 windows side by side", (2, 4, 6, 3), (2, 2), (2, 2), (0, 0)),
    ("3 x 2 windows that overlap", (2, 5, 6, 3), (3, 2), (1, 1), (0, 0)),
    ("stride (2, 1), padding (1, 0)", (2, 5, 4, 3), (3, 2), (2, 1), (1, 0)),
    ("stride (3, 1), padding (0, 1)", (1, 7, 6, 2), (1, 2), (3, 1), (0, 1)),
    ("rows and columns left over", (2, 6, 5, 3), (3, 2), (2, 2), (0, 0)),
)


def output_size(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]):
    """(OH, OW) of a convolution or pooling without dilation."""
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding))


def transposed_size(size, kernel, stride, padding, output_padding):
    """(OH, OW) of a transposed convolution without dilation; all arguments are pairs (y, x)."""
    axes = zip(size, kernel, stride, padding, output_padding)
    return tuple((n - 1) * s - 2 * p + k + extra for n, k, s, p, extra in axes)
