// The sum of two arrays, derivation.md:  z[i] = x[i] + y[i]
//
// Versions of each kernel, both from this text:
//   1 (WIDTH 1)  a thread for one element at a time. Any dtype, any address.
//   2 (WIDTH 4)  four neighbors at a time, read and written in one instruction each (pack.cuh). float32 at addresses
//                that are multiples of 16 bytes; for add_rows pitches and width must be multiples of 4, too.

// with _cuda/pack.cuh
// with _cuda/elementwise.cuh

// Flat arrays of n elements, on a one-dimensional grid.
KERNEL add(const real* x, const real* y, real* z, size_t n) {
  each(x, y, z, n, [](real x, real y) { return x + y; });
}

// Channel slices are read in place: rows (pixels) of `width` elements (channels) whose starts lie x_pitch and y_pitch
// elements apart; those of z are contiguous. A block is as wide as a row, as far as threads go, and has as many rows as
// fit: threads along x have neighboring elements, those along y different rows. So no thread has to divide its
// number to find its row, which for 64 bits is dearer than all else that is done here.
KERNEL add_rows(const real* x, size_t x_pitch, const real* y, size_t y_pitch, real* z, size_t rows, size_t width) {
  const size_t row = (size_t)blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const size_t step = (size_t)WIDTH * gridDim.y * blockDim.x;
  for (size_t c = WIDTH * ((size_t)blockIdx.y * blockDim.x + threadIdx.x); c < width; c += step) {
    Pack<real> sum = load(x + row * x_pitch + c);
    const Pack<real> other = load(y + row * y_pitch + c);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) sum.v[k] += other.v[k];
    store(z + row * width + c, sum);
  }
}
