"""Shapes for the exercises on convolution and pooling, chosen so that mistakes show.

N, H, W, KH, KW, C_in and C_out all differ wherever they can, and so do the two strides and the two paddings: equal
numbers hide exchanged axes. In the last of each table, no output reads the last rows and columns (or voxels).
"""

from ...ops._shared.geometry import Geometry

# (label, shape of x, shape of w, geometry)
CONVOLUTIONS = (
    ("one pixel wide kernel", (1, 4, 5, 2), (1, 1, 2, 3), Geometry()),
    ("3 x 2 kernel, no padding", (2, 4, 5, 3), (3, 2, 3, 4), Geometry()),
    ("padding (1, 2)", (2, 4, 5, 3), (3, 2, 3, 4), Geometry(padding=(1, 2))),
    ("higher than wide, stride (2, 1)", (2, 8, 5, 3), (2, 3, 3, 4), Geometry(stride=(2, 1))),
    ("stride (2, 3), padding (2, 1), rows left over", (2, 6, 9, 3), (3, 2, 3, 4), Geometry((2, 3), (2, 1))),
)
# (label, shape of x, shape of w, padding), with stride 1
WITH_STRIDE_1 = (
    ("1 x 1 kernel", (2, 2, 3, 2), (1, 1, 2, 3), (0, 0)),
    ("2 x 3 kernel, padding (1, 0)", (2, 2, 4, 2), (2, 3, 2, 3), (1, 0)),
    ("3 x 2 kernel, padding (1, 2)", (2, 4, 5, 2), (3, 2, 2, 3), (1, 2)),
)
# (label, shape of x, shape of w as (KH, KW, C_out, C_in), output size, geometry)
TRANSPOSED = (
    ("2 x 2 patches, as in a U-Net", (2, 5, 3, 3), (2, 2, 2, 3), (10, 6), Geometry(stride=(2, 2))),
    ("3 x 2 kernel, stride 1: copies overlap", (2, 3, 4, 3), (3, 2, 2, 3), (5, 5), Geometry()),
    ("padding (2, 1)", (2, 4, 5, 3), (3, 4, 2, 3), (2, 6), Geometry(padding=(2, 1))),
    ("padding (0, 1)", (1, 2, 4, 2), (2, 3, 3, 2), (3, 4), Geometry(padding=(0, 1))),
    (
        "stride (2, 3), padding (1, 0), output padding (1, 2)",
        (2, 3, 4, 3),
        (3, 2, 4, 3),
        (6, 13),
        Geometry((2, 3), (1, 0)),
    ),
)
# (label, shape of x, shape of w, stride, padding), along z, y, x
VOLUMES = (
    ("one voxel wide kernel", (1, 2, 3, 4, 2), (1, 1, 1, 2, 3), (1, 1, 1), (0, 0, 0)),
    ("3 x 2 x 1 kernel, no padding", (2, 4, 3, 5, 2), (3, 2, 1, 2, 3), (1, 1, 1), (0, 0, 0)),
    ("padding (1, 2, 0)", (2, 3, 2, 4, 2), (2, 3, 2, 2, 3), (1, 1, 1), (1, 2, 0)),
    ("stride (2, 1, 1), padding (0, 1, 2)", (1, 5, 4, 3, 2), (2, 1, 3, 2, 3), (2, 1, 1), (0, 1, 2)),
    ("2 x 2 x 2 kernel, as many channels in as out", (2, 3, 4, 5, 2), (2, 2, 2, 2, 2), (1, 1, 1), (0, 1, 0)),
    ("stride (2, 1, 3), padding (0, 2, 1), voxels left over", (2, 6, 3, 7, 2), (3, 2, 2, 2, 3), (2, 1, 3), (0, 2, 1)),
)
# (label, shape of x, window, geometry)
POOLINGS = (
    ("2 x 2 windows side by side", (2, 4, 6, 3), (2, 2), Geometry(stride=(2, 2))),
    ("3 x 2 windows that overlap", (2, 5, 6, 3), (3, 2), Geometry()),
    ("stride (2, 1), padding (1, 0)", (2, 5, 4, 3), (3, 2), Geometry((2, 1), (1, 0))),
    ("stride (3, 1), padding (0, 1)", (1, 7, 6, 2), (1, 2), Geometry((3, 1), (0, 1))),
    ("rows and columns left over", (2, 6, 5, 3), (3, 2), Geometry(stride=(2, 2))),
)
