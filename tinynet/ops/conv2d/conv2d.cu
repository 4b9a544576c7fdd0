// with _cuda/activations.cuh
// with conv2d/geometry.cuh

// conv2d. The letters are those of derivation.md:
//
//   y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of  x[n, iy, ix, ci] w[ky, kx, ci, co]         iy = oy s + ky d - p
//
// Layout: channels last, so that neighboring threads take neighboring channels and read neighboring numbers.
//
//   1 naive    the formula: a thread for each result, a loop for each letter of the sum, in double. Every factor comes
//              from memory or a cache: two loads for each multiply-add. Any size, float and double.
//   2 tiled    a block computes 8 x 8 pixels of 16 channels. It copies the input they need, border included, and the
//              weights to shared memory, 8 channels at a time: all threads of the block then use each copied number. A
//              thread computes 4 neighboring pixels, so that it uses each weight that it loads four times. Stride and
//              dilation 1, one group, kernels of at most 5 x 5.
//   3 blocked  the sums as products of matrices, multiplied by gemm.cuh with up to 64 results in the registers of a
//              thread: blocked.cu, blocked_weight.cu. float only.
//   4 tf32     the same with tensor cores as the multiplier.
//
// cuda.py chooses the version. The gradient of the bias, at the end, is the same for all. The order in which a kernel
// adds depends only on the sizes, so it returns the same bits each time.

// ---------------------------------------------------------------------------------------- 1 naive
KERNEL naive_forward(const real* __restrict__ x, const real* __restrict__ w, OPTIONAL const real* __restrict__ b,
                     real* __restrict__ y, GEOMETRY, EPILOGUE) {
  const Epilogue epilogue = {EPILOGUE_VALUES};
  const size_t i = thread_number();
  if (i >= (size_t)images * oh * ow * c_out) return;
  const int i_group = c_in / groups, o_group = c_out / groups;
  const int co = i % c_out, ox = i / c_out % ow, oy = i / c_out / ow % oh;
  const size_t n = i / c_out / ow / oh;
  const int first_ci = co / o_group * i_group;  // the first input channel of the group of co
  double total = 0;
  for (int ky = 0; ky < kh; ++ky) {
    const int iy = oy * stride_y + ky * dilation_y - padding_y;
    for (int kx = 0; kx < kw; ++kx) {
      const int ix = ox * stride_x + kx * dilation_x - padding_x;
      if (!is_inside(iy, height) || !is_inside(ix, width)) continue;
      const real* x_here = x + ((n * height + iy) * width + ix) * c_in + first_ci;
      const real* w_here = w + (size_t)(ky * kw + kx) * i_group * c_out + co;
      for (int ci = 0; ci < i_group; ++ci) total += (double)x_here[ci] * w_here[(size_t)ci * c_out];
    }
  }
  y[i] = epilogue.at(i, (real)(total + (b ? b[co] : real(0))));
}

// c: a channel of x, counted over all groups; ci: the same channel within its group.
KERNEL naive_backward_input(const real* __restrict__ gy, const real* __restrict__ w, OPTIONAL const real* __restrict__ b,
                            real* __restrict__ gx, GEOMETRY) {
  const size_t i = thread_number();
  if (i >= (size_t)images * height * width * c_in) return;
  const int i_group = c_in / groups, o_group = c_out / groups;
  const int c = i % c_in, ix = i / c_in % width, iy = i / c_in / width % height;
  const size_t n = i / c_in / width / height;
  const int first = c / i_group * o_group, ci = c % i_group;
  double total = 0;
  for (int ky = 0; ky < kh; ++ky) {
    const int y = iy + padding_y - ky * dilation_y;  // oy times the stride, if this is a multiple of the stride
    for (int kx = 0; kx < kw; ++kx) {
      const int x = ix + padding_x - kx * dilation_x;
      if (y % stride_y || x % stride_x) continue;
      const int oy = y / stride_y, ox = x / stride_x;
      if (!is_inside(oy, oh) || !is_inside(ox, ow)) continue;
      const real* gy_here = gy + ((n * oh + oy) * ow + ox) * c_out + first;
      const real* w_here = w + ((size_t)(ky * kw + kx) * i_group + ci) * c_out + first;
      for (int co = 0; co < o_group; ++co) total += (double)gy_here[co] * w_here[co];
    }
  }
  gx[i] = (real)(total + (b ? b[c] : real(0)));
}

KERNEL naive_backward_weight(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ gw, GEOMETRY) {
  const size_t i = thread_number();
  const int i_group = c_in / groups, o_group = c_out / groups;
  if (i >= (size_t)kh * kw * i_group * c_out) return;
  const int co = i % c_out, ci = i / c_out % i_group, kx = i / c_out / i_group % kw, ky = i / c_out / i_group / kw;
  const int c = co / o_group * i_group + ci;
  double total = 0;
  for (size_t n = 0; n < (size_t)images; ++n)
    for (int oy = 0; oy < oh; ++oy) {
      const int iy = oy * stride_y + ky * dilation_y - padding_y;
      if (!is_inside(iy, height)) continue;
      const real* x_row = x + (n * height + iy) * width * c_in + c;
      const real* gy_row = gy + (n * oh + oy) * ow * c_out + co;
      for (int ox = 0; ox < ow; ++ox) {
        const int ix = ox * stride_x + kx * dilation_x - padding_x;
        if (is_inside(ix, width)) total += (double)x_row[(size_t)ix * c_in] * gy_row[(size_t)ox * c_out];
      }
    }
  gw[i] = (real)total;
}

// ---------------------------------------------------------------------------------------- 2 tiled
// A correlation of stride 1, y[oy, ox, co] = sum over ky, kx, ci of x[oy + ky - p_y, ox + kx - p_x, ci] w[ky, kx, ci, co]:
// `forward` as it is, `backward_input` with gy in the place of x and the kernel rotated by 180 degrees (derivation.md).
#define TILED_PIXELS 8  // rows and columns of y in a block
#define TILED_OUT 16    // channels of y
#define TILED_IN 8      // channels of x that are in shared memory at a time
#define MOST_TAPS 5     // rows or columns of the largest kernel
#define STRIP 4         // neighboring pixels that a thread computes
#define TILED_THREADS (TILED_OUT * TILED_PIXELS * TILED_PIXELS / STRIP)

struct Correlation {
  const real *x, *w, *b;
  real* y;
  int height, width, c_in, c_out, kh, kw, padding_y, padding_x, oh, ow;
  bool rotated;  // w is [ky, kx, co, ci], to be read backwards in ky and kx

  __device__ real weight(int tap, int ci, int co) const {
    return rotated ? w[((size_t)(kh * kw - 1 - tap) * c_out + co) * c_in + ci] : w[((size_t)tap * c_in + ci) * c_out + co];
  }
};

__device__ inline void tiled_correlation(const Correlation& g, const Epilogue& epilogue) {
  __shared__ real x_tile[TILED_PIXELS + MOST_TAPS - 1][TILED_PIXELS + MOST_TAPS - 1][TILED_IN];
  __shared__ real w_tile[MOST_TAPS * MOST_TAPS][TILED_IN][TILED_OUT];
  const int tiles_x = (g.ow + TILED_PIXELS - 1) / TILED_PIXELS, tiles_y = (g.oh + TILED_PIXELS - 1) / TILED_PIXELS;
  const int tile_x = blockIdx.x % tiles_x * TILED_PIXELS, tile_y = blockIdx.x / tiles_x % tiles_y * TILED_PIXELS;
  const size_t n = blockIdx.x / tiles_x / tiles_y;
  const int first_co = blockIdx.y * TILED_OUT;
  const int rows = TILED_PIXELS + g.kh - 1, columns = TILED_PIXELS + g.kw - 1;  // of x, border included

  const int co = threadIdx.x % TILED_OUT, strip = threadIdx.x / TILED_OUT;
  const int row = strip / (TILED_PIXELS / STRIP), column = strip % (TILED_PIXELS / STRIP) * STRIP;
  real total[STRIP] = {};

  for (int first_ci = 0; first_ci < g.c_in; first_ci += TILED_IN) {
    for (int i = threadIdx.x; i < rows * columns * TILED_IN; i += TILED_THREADS) {
      const int ci = i % TILED_IN, c = i / TILED_IN % columns, r = i / TILED_IN / columns;
      const int iy = tile_y + r - g.padding_y, ix = tile_x + c - g.padding_x;
      const bool exists = is_inside(iy, g.height) && is_inside(ix, g.width) && first_ci + ci < g.c_in;
      x_tile[r][c][ci] = exists ? g.x[((n * g.height + iy) * g.width + ix) * g.c_in + first_ci + ci] : real(0);
    }
    for (int i = threadIdx.x; i < g.kh * g.kw * TILED_IN * TILED_OUT; i += TILED_THREADS) {
      const int c = i % TILED_OUT, ci = i / TILED_OUT % TILED_IN, tap = i / TILED_OUT / TILED_IN;
      const bool exists = first_ci + ci < g.c_in && first_co + c < g.c_out;
      w_tile[tap][ci][c] = exists ? g.weight(tap, first_ci + ci, first_co + c) : real(0);
    }
    __syncthreads();  // the tiles are complete
    for (int ky = 0; ky < g.kh; ++ky)
      for (int kx = 0; kx < g.kw; ++kx)
        for (int ci = 0; ci < TILED_IN; ++ci) {
          const real weight = w_tile[ky * g.kw + kx][ci][co];
#pragma unroll
          for (int q = 0; q < STRIP; ++q) total[q] += x_tile[row + ky][column + q + kx][ci] * weight;
        }
    __syncthreads();  // all threads have used the tiles, which may now be overwritten
  }

  const int oy = tile_y + row, ox = tile_x + column, channel = first_co + co;
  if (oy >= g.oh || channel >= g.c_out) return;
  const size_t first = ((n * g.oh + oy) * g.ow + ox) * g.c_out + channel;
#pragma unroll
  for (int q = 0; q < STRIP; ++q)
    if (ox + q < g.ow) {
      const size_t i = first + (size_t)q * g.c_out;
      g.y[i] = epilogue.at(i, total[q] + (g.b ? g.b[channel] : real(0)));
    }
}

KERNEL __launch_bounds__(TILED_THREADS, 2) tiled_forward(const real* __restrict__ x, const real* __restrict__ w,
                                                      OPTIONAL const real* __restrict__ b, real* __restrict__ y, GEOMETRY,
                                                      EPILOGUE) {
  tiled_correlation({x, w, b, y, height, width, c_in, c_out, kh, kw, padding_y, padding_x, oh, ow, false},
                    {EPILOGUE_VALUES});
}

KERNEL __launch_bounds__(TILED_THREADS, 2)
    tiled_backward_input(const real* __restrict__ gy, const real* __restrict__ w, OPTIONAL const real* __restrict__ b,
                         real* __restrict__ gx, GEOMETRY) {
  tiled_correlation(
      {gy, w, b, gx, oh, ow, c_out, c_in, kh, kw, kh - 1 - padding_y, kw - 1 - padding_x, height, width, true}, PLAIN);
}

// ---------------------------------------------------------------------------------------- the gradient of the weight
// blocked_weight.cu computes gw in parts; this kernel adds them, always in the same order. threadIdx.x: neighbors.
// threadIdx.y: if there are many parts, several threads share the parts of an element, each taking every blockDim.y-th.
#define FINISH_THREADS 256

KERNEL __launch_bounds__(FINISH_THREADS, 4)
    backward_weight_finish(const real* __restrict__ partial, real* __restrict__ gw, size_t size, int parts) {
  __shared__ double sums[FINISH_THREADS];
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  double total = 0;
  if (i < size)
    for (int part = threadIdx.y; part < parts; part += blockDim.y) total += partial[part * size + i];
  if (blockDim.y > 1) {
    sums[threadIdx.y * blockDim.x + threadIdx.x] = total;
    __syncthreads();
  }
  if (threadIdx.y > 0 || i >= size) return;
  for (int y = 1; y < (int)blockDim.y; ++y) total += sums[y * blockDim.x + threadIdx.x];
  gw[i] = (real)total;
}

// ---------------------------------------------------------------------------------------- the gradient of the bias
// gb[co] = sum over n, oy, ox of gy[n, oy, ox, co], in double: it may have a million terms. In two kernels, because
// blocks cannot wait for each other: each block adds up a part of the pixels, then one warp per channel adds the parts.
#define BIAS_THREADS 256

// partial[co, part] of pixels first .. last - 1, where `pixels` are cut into gridDim.x parts. With C channels, thread t
// takes elements t, t + R C, t + 2 R C ... where R C is the most that fits into a block: neighboring threads read
// neighboring numbers, and a thread always meets the same channel. blockIdx.y: 256 channels, if there are more.
KERNEL backward_bias_parts(const real* __restrict__ gy, double* __restrict__ partial, size_t pixels, int c_out) {
  __shared__ double sums[BIAS_THREADS];
  const int first_co = blockIdx.y * BIAS_THREADS, channels = min(c_out - first_co, BIAS_THREADS);
  const int rows = BIAS_THREADS / channels, row = threadIdx.x / channels, co = threadIdx.x % channels;
  const size_t last = pixels * (blockIdx.x + 1) / gridDim.x;
  double total = 0;
  if (row < rows)
    for (size_t p = pixels * blockIdx.x / gridDim.x + row; p < last; p += rows) total += gy[p * c_out + first_co + co];
  sums[threadIdx.x] = total;
  __syncthreads();
  if (row > 0) return;
  for (int r = 1; r < rows; ++r) total += sums[r * channels + co];
  partial[(size_t)(first_co + co) * gridDim.x + blockIdx.x] = total;
}

// A block of 32 threads for each channel.
KERNEL backward_bias_finish(const double* __restrict__ partial, real* __restrict__ gb, int parts) {
  double total = 0;
  for (int part = threadIdx.x; part < parts; part += 32) total += partial[(size_t)blockIdx.x * parts + part];
  total = warp_sum(total);
  if (threadIdx.x == 0) gb[blockIdx.x] = (real)total;
}
