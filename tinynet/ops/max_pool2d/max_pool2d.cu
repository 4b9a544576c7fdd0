// Max-pooling by windows of size_y x size_x pixels, derivation.md:
//
//     max_pool   y[n, oy, ox, c] = max over ky, kx of x[n, iy, ix, c]         iy = oy stride_y + ky - padding_y
//                indices[n, oy, ox, c] = iy W + ix of that pixel              ix = ox stride_x + kx - padding_x
//     gather     y[n, oy, ox, c] = x[n, indices[n, oy, ox, c], c]
//     scatter    gx[n, i, c] = sum over all (oy, ox) with indices[n, oy, ox, c] = i  of g[n, oy, ox, c]
//
// Versions of max_pool, gather and scatter_cells, both from this text:
//   1 (WIDTH 1)  a thread for one channel of a pixel.
//   2 (WIDTH 4)  a thread for four neighboring channels, read and written in one instruction each (pack.cuh).
//                float32 at addresses that are multiples of 16 bytes, with C a multiple of 4.
// Versions of scatter, all without atomic additions, whose order and so whose last bits would change from run to run:
//   1 scatter_planes  a thread for each plane, (n, c), adds all of it in order. Obvious, but N C threads are few.
//   2 scatter_rows    a thread for a row of a plane, (n, iy, c), adds what reaches that row. Pooling's windows are
//                     small: only the few rows oy whose window lies over iy matter; scatter_reach finds them first.
//   3 scatter_cells   a thread for each pixel, where windows do not overlap: one window only could have sent anything.
//
// Layout: channels last, so neighboring threads have neighboring channels, then neighboring pixels of a row. Kernels
// with a block for each row ("line") of an array have line = blockIdx.x; gridDim.y blocks share a long one, and
// `items` is how many packs it has. So a thread divides 32-bit numbers only, which is cheap, to find its pixel.

// with _cuda/pack.cuh

// A block for each row (n, oy) of y.
KERNEL max_pool(const real* __restrict__ x, real* __restrict__ y, int* __restrict__ indices, int items, int channels,
                int height, int width, int out_height, int out_width, int size_y, int size_x, int stride_y,
                int stride_x, int padding_y, int padding_x) {
  const u32 packs = channels / WIDTH;
  const int oy = blockIdx.x % out_height;
  const size_t n = blockIdx.x / out_height;
  const int top = oy * stride_y - padding_y;
  const int first_y = max(top, 0), end_y = min(top + size_y, height);
  for (u32 item = blockIdx.y * blockDim.x + threadIdx.x; item < (u32)items; item += gridDim.y * blockDim.x) {
    const int ox = item / packs, c = item % packs * WIDTH;
    // Padding counts as minus infinity: leaving it out of the window changes nothing.
    const int left = ox * stride_x - padding_x;
    const int first_x = max(left, 0), end_x = min(left + size_x, width);
    const real* plane = x + n * height * width * channels + c;
    Pack<int> where;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) where.v[k] = first_y * width + first_x;
    Pack<real> best = load(plane + (size_t)where.v[0] * channels);
    for (int iy = first_y; iy < end_y; ++iy) {
      for (int ix = first_x; ix < end_x; ++ix) {
        const int place = iy * width + ix;
        const Pack<real> pixel = load(plane + (size_t)place * channels);
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) {
          // > and not >=: of equal values the first stays. Only NaN differs from itself: the first one wins.
          const bool is_first_nan = pixel.v[k] != pixel.v[k] && best.v[k] == best.v[k];
          const bool wins = pixel.v[k] > best.v[k] || is_first_nan;
          best.v[k] = wins ? pixel.v[k] : best.v[k];
          where.v[k] = wins ? place : where.v[k];
        }
      }
    }
    const size_t target = ((size_t)blockIdx.x * out_width + ox) * channels + c;
    store(y + target, best);
    store(indices + target, where);
  }
}

// A block for each row (n, oy) of indices and y. plane: H W C, the elements of an image of x.
KERNEL gather(const real* __restrict__ x, const int* __restrict__ indices, real* __restrict__ y, int items,
              int channels, size_t plane, int out_height) {
  const u32 packs = channels / WIDTH;
  const real* image = x + blockIdx.x / out_height * plane;
  for (u32 item = blockIdx.y * blockDim.x + threadIdx.x; item < (u32)items; item += gridDim.y * blockDim.x) {
    const int c = item % packs * WIDTH;
    const size_t target = ((size_t)blockIdx.x * items + item) * WIDTH;
    const Pack<int> where = load(indices + target);
    Pack<real> found;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) found.v[k] = image[(size_t)where.v[k] * channels + c + k];
    store(y + target, found);
  }
}

// A block for each row (n, iy) of gx. Pixel (iy, ix) lies in the cell of window (iy div cell_y, ix div cell_x) and asks
// it, "was it me?". Rows and columns that did not fill a cell belong to no window.
KERNEL scatter_cells(const real* __restrict__ g, const int* __restrict__ indices, real* __restrict__ gx, int items,
                     int channels, int height, int width, int out_height, int out_width, int cell_y, int cell_x) {
  const u32 packs = channels / WIDTH;
  const int iy = blockIdx.x % height, oy = iy / cell_y;
  const size_t n = blockIdx.x / height;
  for (u32 item = blockIdx.y * blockDim.x + threadIdx.x; item < (u32)items; item += gridDim.y * blockDim.x) {
    const int ix = item / packs, c = item % packs * WIDTH, ox = ix / cell_x;
    Pack<real> mine;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) mine.v[k] = 0;
    if (oy < out_height && ox < out_width) {
      const size_t source = ((n * out_height + oy) * out_width + ox) * channels + c;
      const Pack<int> where = load(indices + source);
      const Pack<real> sent = load(g + source);
#pragma unroll
      for (int k = 0; k < WIDTH; ++k) {
        if (where.v[k] == iy * width + ix) mine.v[k] = sent.v[k];
      }
    }
    store(gx + ((size_t)blockIdx.x * items + item) * WIDTH, mine);
  }
}

// A thread for each (n, c): it clears its plane and adds to it in the order of the outputs.
KERNEL scatter_planes(const real* __restrict__ g, const int* __restrict__ indices, real* __restrict__ gx,
                      size_t planes, int channels, int pixels, int outputs) {
  const size_t thread = thread_number();
  if (thread >= planes) return;
  const size_t n = thread / channels, c = thread % channels;
  real* plane = gx + n * pixels * channels + c;
  for (int i = 0; i < pixels; ++i) plane[(size_t)i * channels] = 0;
  for (int o = 0; o < outputs; ++o) {
    const size_t source = (n * outputs + o) * channels + c;
    plane[(size_t)indices[source] * channels] += g[source];
  }
}

// reach[2 line], reach[2 line + 1] = the first and last row iy that any number in row `line` = (n, oy) of g is sent to;
// a block for each line, which holds `row` numbers. The smallest and the largest do not depend on the order: here
// atomics do no harm.
KERNEL scatter_reach(const int* __restrict__ indices, int* __restrict__ reach, size_t row, int width) {
  __shared__ int smallest, largest;
  if (threadIdx.x == 0) {
    smallest = 0x7fffffff;
    largest = -1;
  }
  __syncthreads();
  int low = 0x7fffffff, high = -1;
  for (size_t i = threadIdx.x; i < row; i += blockDim.x) {
    const int place = indices[(size_t)blockIdx.x * row + i];
    low = min(low, place);
    high = max(high, place);
  }
  atomicMin(&smallest, low);
  atomicMax(&largest, high);
  __syncthreads();
  if (threadIdx.x == 0) {
    reach[2 * (size_t)blockIdx.x] = smallest / width;
    reach[2 * (size_t)blockIdx.x + 1] = largest / width;
  }
}

// A thread for each (n, iy, c) clears its row of gx and adds to it, in the order of the outputs, what was sent there.
KERNEL scatter_rows(const real* __restrict__ g, const int* __restrict__ indices, const int* __restrict__ reach,
                    real* __restrict__ gx, size_t rows, int channels, int height, int width, int out_height,
                    int out_width) {
  const size_t thread = thread_number();
  if (thread >= rows) return;
  const size_t line = thread / channels, c = thread % channels, n = line / height;
  const int iy = line % height;
  real* row = gx + line * width * channels + c;
  for (int ix = 0; ix < width; ++ix) row[(size_t)ix * channels] = 0;
  for (int oy = 0; oy < out_height; ++oy) {
    const size_t out_line = n * out_height + oy;
    if (iy < reach[2 * out_line] || iy > reach[2 * out_line + 1]) continue;
    for (int ox = 0; ox < out_width; ++ox) {
      const size_t source = (out_line * out_width + ox) * channels + c;
      const int ix = indices[source] - iy * width;
      if (ix >= 0 && ix < width) row[(size_t)ix * channels] += g[source];
    }
  }
}
