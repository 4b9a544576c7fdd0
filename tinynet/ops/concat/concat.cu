// One array of a concatenation is copied to its place, derivation.md:  y[row, o_k + c] = xk[row, c]
// There is a launch for each array; together they fill y.
//
// Versions, both from this text:
//   1 (WIDTH 1)  a thread moves one element at a time. Any dtype, any address.
//   2 (WIDTH 4)  four neighbors at a time, in one instruction each (pack.cuh). float32, where the starts of all rows
//                are multiples of 16 bytes: width, offset and pitches multiples of 4.
//
// Layout: rows of `width` elements whose starts lie x_pitch (more than width in a channel slice) and y_pitch elements
// apart; y points to o_k. A block is as wide as a row, as far as threads go, and has as many rows as fit: threads along
// x move neighboring elements, those along y different rows. So no thread has to divide its number to find its row.

// with _cuda/pack.cuh

KERNEL copy_rows(const real* __restrict__ x, size_t x_pitch, real* __restrict__ y, size_t y_pitch, size_t rows,
                 size_t width) {
  const size_t row = (size_t)blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const size_t step = (size_t)WIDTH * gridDim.y * blockDim.x;
  for (size_t c = WIDTH * ((size_t)blockIdx.y * blockDim.x + threadIdx.x); c < width; c += step) {
    store(y + row * y_pitch + c, load(x + row * x_pitch + c));
  }
}
