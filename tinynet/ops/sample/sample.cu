// Linear interpolation of images at points; derivation.md. All images are volumes here: one slice is an image.
//
//     sample_forward   y[n, m, c] = sum over the corners of the cell around point m of weight x[n, corner, c]
//                      a thread for each element of y
//     sample_points    gpoints[n, m, a] = sum over corners and c of d weight / d coordinate a  x[n, corner, c] gy[n, m, c]
//                      a thread for each point
//     sample_input     gx[n, voxel, c] = sum of weight gy[n, m, c] over the points in the up to eight cells around
//                      a thread for each element of gx. The host has sorted the points by their cells, so that a thread
//                      finds the points of a cell side by side. With a thread for each point, threads would have to add
//                      atomically, in an order that changes from run to run.
//
// A block has 256 threads, which sample_points promises: it may then use more registers than 1024 threads could have.
// points: (N, M, axes) in the order (z, y, x) or (y, x). reach: see reference.py.

#define SIZES int depth, int height, int width, int channels, int points_per_image, int axes, int reach

// Where a point lies along one axis: the pixel below, the distance from it, and whether it moves with the point.
struct Cell { int lower; real fraction; bool moves; };

__device__ inline Cell cell_of(real coordinate, int size, int reach) {
  const real low = -reach, high = size - 1 + reach;
  const real clipped = coordinate < low ? low : coordinate > high ? high : coordinate;  // NaN stays NaN
  const int lower = clipped == clipped ? (int)floor((double)clipped) : 0;
  return {lower, clipped - lower, low < coordinate && coordinate < high};
}

struct Place { Cell z, y, x; };

__device__ inline Place place_of(const real* point, int depth, int height, int width, int axes, int reach) {
  const Cell first = {0, 0, false};
  return {axes == 3 ? cell_of(point[0], depth, reach) : first, cell_of(point[axes - 2], height, reach),
          cell_of(point[axes - 1], width, reach)};
}

__device__ inline real weight_of(int upper, real fraction) { return upper ? fraction : 1 - fraction; }

__device__ inline bool is_inside(int iz, int iy, int ix, int depth, int height, int width) {
  return 0 <= iz && iz < depth && 0 <= iy && iy < height && 0 <= ix && ix < width;
}

KERNEL sample_forward(const real* __restrict__ x, const real* __restrict__ points, real* __restrict__ y, size_t size,
                      SIZES) {
  for (size_t item = thread_number(); item < size; item += thread_count()) {
    const size_t m = item / channels, c = item % channels, n = m / points_per_image;
    const Place p = place_of(points + m * axes, depth, height, width, axes, reach);
    real total = 0;
    for (int corner = 0; corner < 8; ++corner) {
      const int uz = corner >> 2, uy = corner >> 1 & 1, ux = corner & 1;
      const int iz = p.z.lower + uz, iy = p.y.lower + uy, ix = p.x.lower + ux;
      const real weight = weight_of(uz, p.z.fraction) * weight_of(uy, p.y.fraction) * weight_of(ux, p.x.fraction);
      if (weight != 0 && is_inside(iz, iy, ix, depth, height, width))
        total += weight * x[(((n * depth + iz) * height + iy) * width + ix) * channels + c];
    }
    y[item] = total;
  }
}

KERNEL __launch_bounds__(256)
sample_points(const real* __restrict__ x, const real* __restrict__ gy, const real* __restrict__ points,
              real* __restrict__ gpoints, size_t size, SIZES) {
  for (size_t m = thread_number(); m < size; m += thread_count()) {
    const size_t n = m / points_per_image;
    const Place p = place_of(points + m * axes, depth, height, width, axes, reach);
    real total_z = 0, total_y = 0, total_x = 0;
    for (int corner = 0; corner < 8; ++corner) {
      const int uz = corner >> 2, uy = corner >> 1 & 1, ux = corner & 1;
      const int iz = p.z.lower + uz, iy = p.y.lower + uy, ix = p.x.lower + ux;
      if (!is_inside(iz, iy, ix, depth, height, width)) continue;
      const real* voxel = x + (((n * depth + iz) * height + iy) * width + ix) * channels;
      real along = 0;
      for (int c = 0; c < channels; ++c) along += voxel[c] * gy[m * channels + c];
      const real wz = weight_of(uz, p.z.fraction), wy = weight_of(uy, p.y.fraction), wx = weight_of(ux, p.x.fraction);
      total_z += (2 * uz - 1) * wy * wx * along;
      total_y += (2 * uy - 1) * wz * wx * along;
      total_x += (2 * ux - 1) * wz * wy * along;
    }
    if (axes == 3) gpoints[m * axes] = p.z.moves ? total_z : 0;
    gpoints[m * axes + axes - 2] = p.y.moves ? total_y : 0;
    gpoints[m * axes + axes - 1] = p.x.moves ? total_x : 0;
  }
}

// order: the points sorted by (image, cell). starts: where the points of each cell begin in it. The cells of an image
// are counted from -1 along each axis to one beyond the last voxel: points outside of the image are there.
KERNEL sample_input(const real* __restrict__ gy, const real* __restrict__ points, const i64* __restrict__ order,
                    const i64* __restrict__ starts, real* __restrict__ gx, size_t size, SIZES) {
  for (size_t item = thread_number(); item < size; item += thread_count()) {
    const size_t c = item % channels, voxel = item / channels;
    const int ix = (int)(voxel % width), iy = (int)(voxel / width % height);
    const int iz = (int)(voxel / ((size_t)width * height) % depth);
    const size_t n = voxel / ((size_t)width * height * depth);
    real total = 0;
    for (int corner = 0; corner < 8; ++corner) {
      const int uz = corner >> 2, uy = corner >> 1 & 1, ux = corner & 1;
      const size_t cell = ((n * (depth + 2) + iz + 1 - uz) * (height + 2) + iy + 1 - uy) * (width + 2) + ix + 1 - ux;
      for (i64 i = starts[cell]; i < starts[cell + 1]; ++i) {
        const size_t m = order[i];
        const Place p = place_of(points + m * axes, depth, height, width, axes, reach);
        total += weight_of(uz, p.z.fraction) * weight_of(uy, p.y.fraction) * weight_of(ux, p.x.fraction) *
                 gy[m * channels + c];
      }
    }
    gx[item] = total;
  }
}
