"""Sampling between pixels: the gradients of grid_sample.

A point p = (p_y, p_x), in pixels, reads an image between four pixels, the corners of its cell. Pixel 0 has its center
at 0. With i = floor(p) and the fraction f = p - i along each axis, bilinear interpolation is

    y[n, m, c] = (1 - f_y) (1 - f_x) x[n, i_y,     i_x, c]  +  (1 - f_y) f_x x[n, i_y,     i_x + 1, c]
               +      f_y  (1 - f_x) x[n, i_y + 1, i_x, c]  +       f_y  f_x x[n, i_y + 1, i_x + 1, c]

A corner outside of the image reads 0 and gets no gradient. The other corners of its cell count as usual, so the image
fades to 0 within one pixel. The layer has two inputs, the image and the points, so it has two gradients:

- of the image: each corner gets its weight times gy. Several points may share a corner, so add.
- of the points: the weights depend on p through f, whose derivative is 1; i is constant within a cell. So the weight
  (1 - f_y) (1 - f_x) has the derivative -(1 - f_x) with respect to p_y. Sum over the corners and the channels.

At a whole number, p lies between two cells, and the formula (floor) decides for the one with the larger indices.

grid_sample of tinynet and PyTorch takes a `grid` of points (g_x, g_y), with x first: -1 is the left or upper *edge* of
the image and 1 the right or lower one, half a pixel away from the centers of the outermost pixels. The third gradient
takes one more step of the chain rule, through

    p_y = (g_y + 1) H / 2 - 1/2        p_x = (g_x + 1) W / 2 - 1/2
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers

TEACHES = "a gather that is differentiable in *where* it reads; what a spatial transformer and a registration learn by"
HINTS = (
    "Loop over the points, and for each over its four corners. np.floor rounds down; int() rounds towards 0, which "
    "differs for negative numbers. Test 0 <= iy < H and 0 <= ix < W: NumPy takes the index -1 for the last pixel.",
    "Let each corner have a weight along y (1 - f_y or f_y) and one along x. Its weight is their product, and its "
    "derivative with respect to p_y is (-1 or 1) times the weight along x. All channels move together: "
    "np.dot(x[n, iy, ix], gy[n, m]) is their sum.",
    """
    for iy, wy, dy in ((top, 1 - fy, -1), (top + 1, fy, 1)):
        for ix, wx, dx in ((left, 1 - fx, -1), (left + 1, fx, 1)):
            if 0 <= iy < H and 0 <= ix < W:
                gx[n, iy, ix] += wy * wx * gy[n, m]
                gpoints[n, m] += np.array([dy * wx, wy * dx]) * np.dot(x[n, iy, ix], gy[n, m])
    """,
)
OP = "sample"
USE = "warp"


# ---- your file
def backward_input(gy, points, size):
    """gx (N, H, W, C). gy (N, M, C); points (N, M, 2): (y, x) in pixels, of M points for each image; size: (H, W)."""
    # ---- solution
    (N, M, C), (H, W) = gy.shape, size
    lower = np.floor(points).astype(int)
    fraction = points - lower
    gx = np.zeros((N, H, W, C), gy.dtype)
    for n, m in np.ndindex(N, M):
        (top, left), (fy, fx) = lower[n, m], fraction[n, m]
        for iy, wy in ((top, 1 - fy), (top + 1, fy)):
            for ix, wx in ((left, 1 - fx), (left + 1, fx)):
                if 0 <= iy < H and 0 <= ix < W:
                    gx[n, iy, ix] += wy * wx * gy[n, m]
    return gx
    # ---- end of solution


def backward_points(x, gy, points):
    """gpoints (N, M, 2), dL/d(p_y, p_x) of each point. x (N, H, W, C), gy (N, M, C), points (N, M, 2)."""
    # ---- solution
    N, H, W, _ = x.shape
    cells = np.floor(points).astype(int)
    gpoints = np.zeros(points.shape, points.dtype)
    for n, m in np.ndindex(N, points.shape[1]):
        (top, left), (fy, fx) = cells[n, m], points[n, m] - cells[n, m]
        for iy, wy, dy in ((top, 1 - fy, -1), (top + 1, fy, 1)):
            for ix, wx, dx in ((left, 1 - fx, -1), (left + 1, fx, 1)):
                if iy in range(H) and ix in range(W):
                    along = np.dot(x[n, iy, ix], gy[n, m])
                    gpoints[n, m] += dy * wx * along, wy * dx * along
    return gpoints
    # ---- end of solution


def backward_grid(gpoints, size):
    """ggrid (N, M, 2), dL/d(g_x, g_y): x first. gpoints (N, M, 2), dL/d(p_y, p_x); size: (H, W) of the image."""
    # ---- solution
    H, W = size
    return gpoints[..., ::-1] * np.array([W, H]) / 2
    # ---- end of solution


# ---- end of your file


_INSIDE, _IN_RANGE = "if 0 <= iy < H and 0 <= ix < W:", "if iy in range(H) and ix in range(W):"
_ADD = "gx[n, iy, ix] += wy * wx * gy[n, m]"
_LOOP_OVER_POINTS = """    for n, m in np.ndindex(N, M):
        (top, left), (fy, fx) = lower[n, m], fraction[n, m]
        for iy, wy in ((top, 1 - fy), (top + 1, fy)):
            for ix, wx in ((left, 1 - fx), (left + 1, fx)):
                if 0 <= iy < H and 0 <= ix < W:
                    gx[n, iy, ix] += wy * wx * gy[n, m]
"""
_ADD_AT = "np.add.at(gx, (n[keep], iy[keep], ix[keep]), share)"
_ALL_AT_ONCE = f"""    (top, left), (fy, fx) = np.moveaxis(lower, -1, 0), np.moveaxis(fraction, -1, 0)
    n = np.broadcast_to(np.arange(N)[:, None], (N, M))
    for iy, wy in ((top, 1 - fy), (top + 1, fy)):
        for ix, wx in ((left, 1 - fx), (left + 1, fx)):
            keep = (0 <= iy) & (iy < H) & (0 <= ix) & (ix < W)
            share = (wy * wx)[keep][:, None] * gy[keep]
            {_ADD_AT}
"""
_ALONG = "gpoints[n, m] += dy * wx * along, wy * dx * along"
_GRID = "gpoints[..., ::-1] * np.array([W, H]) / 2"
WRONG = (
    Wrong(
        "image: rounded towards 0",
        "For gx you round towards 0, as int() does. Left of the image, at -0.5, the cell begins at -1: np.floor.",
        ("lower = np.floor(points).astype(int)", "lower = points.astype(int)"),
    ),
    Wrong(
        "image: index -1",
        "For gx a corner at index -1 is used, which NumPy takes for the last row or column. A corner outside of the "
        "image gets nothing.",
        (_INSIDE, "if iy < H and ix < W:"),
    ),
    Wrong(
        "image: outside counts for the border",
        "The share of a corner outside of the image is added to the nearest border pixel. It is lost instead: the "
        "corner read 0, whatever x is.",
        (_INSIDE, "iy, ix = min(max(iy, 0), H - 1), min(max(ix, 0), W - 1)\n                if True:"),
    ),
    Wrong(
        "image: point dropped",
        "For gx you drop a point if one of its corners lies outside of the image. The corners inside get their shares.",
        (_INSIDE, "if 0 <= top < H - 1 and 0 <= left < W - 1:"),
    ),
    Wrong(
        "image: weights exchanged",
        "The weights of gx are exchanged: the corner at floor(p) has the weight 1 - f, because a point at f = 0 reads "
        "it alone.",
        ("((top, 1 - fy), (top + 1, fy))", "((top, fy), (top + 1, 1 - fy))"),
        ("((left, 1 - fx), (left + 1, fx))", "((left, fx), (left + 1, 1 - fx))"),
    ),
    Wrong(
        "image: = for +=",
        "A corner that several points share keeps the share of the last point only: add to gx, do not assign.",
        (_ADD, "gx[n, iy, ix] = wy * wx * gy[n, m]"),
    ),
    Wrong(
        "image: added once",
        "gx[n, iy, ix] += ... for all points at once adds once only to a corner that several points share: NumPy reads "
        "all, adds, and writes all. Use np.add.at or a loop.",
        (_LOOP_OVER_POINTS, _ALL_AT_ONCE.replace(_ADD_AT, "gx[n[keep], iy[keep], ix[keep]] += share")),
    ),
    Wrong(
        "image: nearest pixel",
        "The whole gy goes to the pixel nearest to the point. Four pixels were read, each with its weight.",
        (_ADD, "gx[n, iy, ix] += ((iy, ix) == tuple(np.rint(points[n, m]))) * gy[n, m]"),
    ),
    Wrong(
        "image: (x, y) for (y, x)",
        "For gx you read a point as (x, y). Here it is (y, x), as the axes of the image.",
        ("(top, left), (fy, fx) = lower[n, m], fraction[n, m]", "(left, top), (fx, fy) = lower[n, m], fraction[n, m]"),
    ),
    Wrong(
        "image: first image for all",
        "All gradients are added to the first image of the batch. Each image has its own points.",
        (_ADD, "gx[0, iy, ix] += wy * wx * gy[n, m]"),
    ),
    Wrong(
        "points: other weight forgotten",
        "The derivative with respect to p_y lacks the weight along x, and vice versa: the weight of a corner is a "
        "product, and its other factor stays.",
        (_ALONG, "gpoints[n, m] += dy * along, dx * along"),
    ),
    Wrong(
        "points: weights for derivatives",
        "You use the weights of the corners where their derivatives are needed: -1 times the weight along the other "
        "axis for a corner at floor(p), 1 times it for the next one.",
        (_ALONG, "gpoints[n, m] += wy * wx * along, wy * wx * along"),
    ),
    Wrong(
        "points: sign",
        "The sign of gpoints is wrong: if f grows, the weight of the corner at floor(p) becomes smaller (-1), and that "
        "of the next one larger (1).",
        (_ALONG, "gpoints[n, m] -= dy * wx * along, wy * dx * along"),
    ),
    Wrong(
        "points: (x, y) for (y, x)",
        "The two derivatives in gpoints are exchanged: a point is (y, x), and so is its gradient.",
        (_ALONG, "gpoints[n, m] += wy * dx * along, dy * wx * along"),
    ),
    Wrong(
        "points: gy ignored",
        "gpoints ignores gy: it is the derivative of the sum of y, not of the loss.",
        ("np.dot(x[n, iy, ix], gy[n, m])", "np.sum(x[n, iy, ix])"),
    ),
    Wrong(
        "points: first channel only",
        "gpoints uses the first channel only. All channels are read at the same point: sum over them.",
        ("np.dot(x[n, iy, ix], gy[n, m])", "x[n, iy, ix, 0] * gy[n, m, 0]"),
    ),
    Wrong(
        "points: mean over the channels",
        "gpoints is a mean over the channels: one point moves all of them, so its gradient is their sum.",
        ("np.dot(x[n, iy, ix], gy[n, m])", "np.mean(x[n, iy, ix] * gy[n, m])"),
    ),
    Wrong(
        "points: rounded towards 0",
        "For gpoints you round towards 0, as int() does. Left of the image, at -0.5, the cell begins at -1: np.floor.",
        ("cells = np.floor(points).astype(int)", "cells = points.astype(int)"),
    ),
    Wrong(
        "points: index -1",
        "For gpoints a corner at index -1 is read, which NumPy takes for the last row or column. Outside of the image "
        "is 0.",
        (_IN_RANGE, "if iy < H and ix < W:"),
    ),
    Wrong(
        "points: border goes on",
        "For gpoints a corner outside of the image has the value of the nearest border pixel (padding='border'). Here "
        "zeros surround the image.",
        (_IN_RANGE, "iy, ix = min(max(iy, 0), H - 1), min(max(ix, 0), W - 1)\n                if True:"),
    ),
    Wrong(
        "points: point dropped",
        "gpoints is 0 for a point with a corner outside of the image. The corners inside still change with p.",
        (_IN_RANGE, "if 0 <= top < H - 1 and 0 <= left < W - 1:"),
    ),
    Wrong(
        "grid: order of the axes",
        "ggrid is in the order (y, x): a point of the grid is (x, y), so the two are exchanged.",
        (_GRID, "gpoints * np.array([H, W]) / 2"),
    ),
    Wrong(
        "grid: factor forgotten",
        "ggrid lacks the factor: if g changes by 1, p changes by half the size of the image.",
        (_GRID, "gpoints[..., ::-1] * 1.0"),
    ),
    Wrong(
        "grid: H and W exchanged",
        "The factors of ggrid are exchanged: g_x is multiplied by W / 2, g_y by H / 2.",
        (_GRID, "gpoints[..., ::-1] * np.array([H, W]) / 2"),
    ),
    Wrong(
        "grid: -1 and 1 at the centers",
        "Your factors are (size - 1) / 2: then -1 and 1 would be the *centers* of the outermost pixels "
        "(align_corners=True in PyTorch). Here they are the edges of the image.",
        (_GRID, "gpoints[..., ::-1] * (np.array([W, H]) - 1) / 2"),
    ),
)
RIGHT = (
    Right(
        "all points at once",
        (_LOOP_OVER_POINTS, _ALL_AT_ONCE),
    ),
    Right(
        "an image with a border of zeros",
        ("N, H, W, _ = x.shape", "x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))\n    N, H, W, _ = x.shape"),
        ("if iy in range(H) and ix in range(W):", "if iy + 1 in range(H) and ix + 1 in range(W):"),
        ("np.dot(x[n, iy, ix], gy[n, m])", "np.dot(x[n, iy + 1, ix + 1], gy[n, m])"),
    ),
    Right(
        "axis by axis",
        (
            "return " + _GRID,
            "ggrid = np.empty_like(gpoints)\n    ggrid[..., 0], ggrid[..., 1] = gpoints[..., 1] * W / 2, "
            "gpoints[..., 0] * H / 2\n    return ggrid",
        ),
    ),
)


def probes(rng):
    one = (1, 3, 4, 1)
    for label, shape, points in (
        ("a point between four pixels", one, [(0.25, 1.5)]),
        ("points that share corners", (1, 3, 4, 2), [(1.25, 1.5), (1.5, 1.25), (0.5, 2.25)]),
        ("at the center of a pixel", one, [(1.0, 2.0), (2.0, 0.0)]),
        ("beyond the left and the upper edge", (1, 3, 4, 2), [(0.75, -0.25), (-0.5, 1.25), (-0.25, -0.75)]),
        ("beyond the right and the lower edge", (1, 3, 4, 2), [(0.75, 3.25), (2.5, 1.25), (2.25, 3.75)]),
        ("far outside", one, [(1.25, 6.5), (-3.75, 1.5), (1.5, 1.5)]),
    ):
        yield from _both(rng, label, shape, np.array([points]))
    shape = (2, 5, 3, 3)
    points = np.stack([rng.integers(-3, 4 * n, (2, 4)) / 4 for n in shape[1:3]], axis=-1)
    yield from _both(rng, "two images, 3 channels", shape, points)
    for label, count, size in (("an image of 4 x 6 pixels", 1, (4, 6)), ("an image of 3 x 2 pixels", 3, (3, 2))):
        yield call(label, "backward_grid", integers(rng, 2, count, 2), size, gives={"ggrid": "n point xy"})


def _both(rng, label, shape, points):
    """A probe for each of the two gradients."""
    x, gy = integers(rng, *shape), integers(rng, *points.shape[:2], shape[3])
    gives = {"gives": {"gx": "n iy ix c"}, "gy": "n point c"}
    yield call(label, "backward_input", gy, points, shape[1:3], **gives)
    yield call(label, "backward_points", x, gy, points, gives={"gpoints": "n point yx"})


def library():
    import tinynet as tn
    from tinynet.ops.sample.reference import backward_input, backward_points

    def backward_grid(gpoints, size):
        grid = tn.tensor(np.zeros(gpoints.shape), requires_grad=True)
        points = (grid[..., ::-1] + 1) * (np.array(size) / 2) - 0.5
        return tn.grad(points, grid, gpoints).numpy()

    return {
        "backward_input": lambda gy, points, size: backward_input(gy, points, size, 1),
        "backward_points": lambda x, gy, points: backward_points(x, gy, points, 1),
        "backward_grid": backward_grid,
    }


def kernels(functions):
    """tinynet's kernels know `reach`, too: 1 if zeros surround the image; 0 if its border goes on.

    With 0, coordinates are clipped to the image first. A coordinate that was clipped has the derivative 0.
    """

    def clipped(points, size, reach):
        if len(size) != 2:
            raise ValueError("samp-01: your kernels are for images, and a volume is asked for")
        return np.clip(points, -reach, np.array(size) - 1 + reach)

    def backward_input(gy, points, size, reach):
        return functions["backward_input"](gy, clipped(points, size, reach), size)

    def backward_points(x, gy, points, reach):
        size = x.shape[1:-1]
        is_inside = (points > -reach) & (points < np.array(size) - 1 + reach)
        return functions["backward_points"](x, gy, clipped(points, size, reach)) * is_inside

    return {"backward_input": backward_input, "backward_points": backward_points}
