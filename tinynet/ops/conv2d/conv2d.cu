// with _cuda/activations.cuh
// with conv2d/definition.cuh

// conv2d. The letters are those of derivation.md:
//
//   y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of  x[n, iy, ix, ci] w[ky, kx, ci, co]         iy = oy s + ky d - p
//
// Layout: channels last, so that neighbouring threads take neighbouring channels and read neighbouring numbers.
//
//   1 naive    the formula: a thread for each result, a loop for each letter of the sum (definition.cuh), in double.
//              Every factor comes from memory or a cache: two loads for each multiply-add. Any size, float and double.
//   2 tiled    a block computes 8 x 8 pixels of 16 channels. It copies the input they need, border included, and the
//              weights to shared memory, 8 channels at a time: what was read once serves all its threads. A thread
//              computes 4 neighbouring pixels, so that a weight, once loaded, serves four times. Stride and dilation 1.
//   3 blocked  the sums as products of matrices, multiplied by gemm.cuh with up to 64 results in the registers of a
//              thread: blocked.cu. Any size.
//   4 tf32     the same with tensor cores as the multiplier.
//
// The gradient of the bias, at the end, is the same for all. All kernels add up in an order that depends on nothing but
// the sizes: the same bits each time.

// ---------------------------------------------------------------------------------------- 1 naive
KERNEL naive_forward(const real* __restrict__ x, const real* __restrict__ w, OPTIONAL const real* __restrict__ b,
                     real* __restrict__ y, GEOMETRY, ACTIVATION) {
  const Geometry g = {GEOMETRY_VALUES};
  const Activation activation = {ACTIVATION_VALUES};
  const size_t i = thread_number();
  if (i >= (size_t)images * oh * ow * c_out) return;
  const int co = i % c_out;
  y[i] = activation.at(i, (real)(sum_for_y(x, w, g, i / c_out, co) + (b ? b[co] : real(0))));
}

KERNEL naive_backward_input(const real* __restrict__ gy, const real* __restrict__ w, OPTIONAL const real* __restrict__ b,
                            real* __restrict__ gx, GEOMETRY) {
  const Geometry g = {GEOMETRY_VALUES};
  const size_t i = thread_number();
  if (i >= (size_t)images * height * width * c_in) return;
  const int c = i % c_in;
  gx[i] = (real)(sum_for_gx(gy, w, g, i / c_in, c) + (b ? b[c] : real(0)));
}

KERNEL naive_backward_weight(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ gw, GEOMETRY) {
  const Geometry g = {GEOMETRY_VALUES};
  const size_t i = thread_number();
  if (i >= (size_t)kh * kw * (c_in / groups) * c_out) return;
  gw[i] = (real)sum_for_gw(x, gy, g, i / c_out, i % c_out);
}

// ---------------------------------------------------------------------------------------- 2 tiled
// A correlation of stride 1, y[oy, ox, co] = sum over ky, kx, ci of x[oy + ky - p_y, ox + kx - p_x, ci] w[ky, kx, ci, co]:
// `forward` as it is, `backward_input` with gy in the place of x and the weights turned round (derivation.md).
#define TILED_PIXELS 8  // rows and columns of y in a block
#define TILED_OUT 16    // channels of y
#define TILED_IN 8      // channels of x that are in shared memory at a time
#define MOST_TAPS 5     // rows or columns of the largest kernel
#define STRIP 4         // neighbouring pixels that a thread computes
#define TILED_THREADS (TILED_OUT * TILED_PIXELS * TILED_PIXELS / STRIP)

struct Plain {
  const real *x, *w, *b;
  real* y;
  int height, width, c_in, c_out, kh, kw, padding_y, padding_x, oh, ow;
  bool turned;  // w is [ky, kx, co, ci], to be read backwards in ky and kx

  __device__ real weight(int tap, int ci, int co) const {
    return turned ? w[((size_t)(kh * kw - 1 - tap) * c_out + co) * c_in + ci] : w[((size_t)tap * c_in + ci) * c_out + co];
  }
};

// What a thread computes: channel co of the pixels (oy, ox) .. (oy, ox + count - 1) of y; `pixel` is the first of them.
struct Strip {
  size_t pixel;
  int co, count;
};

__device__ inline Strip tiled_correlation(const Plain& g) {
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
    __syncthreads();  // the tiles are whole
    for (int ky = 0; ky < g.kh; ++ky)
      for (int kx = 0; kx < g.kw; ++kx)
        for (int ci = 0; ci < TILED_IN; ++ci) {
          const real weight = w_tile[ky * g.kw + kx][ci][co];
#pragma unroll
          for (int q = 0; q < STRIP; ++q) total[q] += x_tile[row + ky][column + q + kx][ci] * weight;
        }
    __syncthreads();  // nobody needs them any more
  }

  const int oy = tile_y + row, ox = tile_x + column;
  const bool exists = oy < g.oh && first_co + co < g.c_out;
  const Strip mine = {(n * g.oh + oy) * g.ow + ox, first_co + co, exists ? min(STRIP, g.ow - ox) : 0};
#pragma unroll
  for (int q = 0; q < STRIP; ++q)
    if (q < mine.count) g.y[(mine.pixel + q) * g.c_out + mine.co] = total[q] + (g.b ? g.b[mine.co] : real(0));
  return mine;
}

// A zero of the padding times a weight that is NaN or infinite is NaN, where the definition has no term at all. So a
// result that is NaN is computed again by the definition.
KERNEL __launch_bounds__(TILED_THREADS, 2) tiled_forward(const real* __restrict__ x, const real* __restrict__ w,
                                                      OPTIONAL const real* __restrict__ b, real* __restrict__ y, GEOMETRY) {
  const Geometry g = {GEOMETRY_VALUES};
  const Strip mine = tiled_correlation({x, w, b, y, height, width, c_in, c_out, kh, kw, padding_y, padding_x, oh, ow, false});
  for (size_t pixel = mine.pixel; pixel < mine.pixel + mine.count; ++pixel) {
    real& result = y[pixel * c_out + mine.co];
    if (isnan(result)) result = (real)sum_for_y(x, w, g, pixel, mine.co) + (b ? b[mine.co] : real(0));
  }
}

KERNEL __launch_bounds__(TILED_THREADS, 2)
    tiled_backward_input(const real* __restrict__ gy, const real* __restrict__ w, OPTIONAL const real* __restrict__ b,
                         real* __restrict__ gx, GEOMETRY) {
  const Geometry g = {GEOMETRY_VALUES};
  const Strip mine = tiled_correlation(
      {gy, w, b, gx, oh, ow, c_out, c_in, kh, kw, kh - 1 - padding_y, kw - 1 - padding_x, height, width, true});
  for (size_t pixel = mine.pixel; pixel < mine.pixel + mine.count; ++pixel) {
    real& result = gx[pixel * c_in + mine.co];
    if (isnan(result)) result = (real)sum_for_gx(gy, w, g, pixel, mine.co) + (b ? b[mine.co] : real(0));
  }
}

// ---------------------------------------------------------------------------------------- the gradient of the weight
// blocked.cu computes it in parts; gw is their sum, always in the same order. threadIdx.x: neighbouring elements.
// threadIdx.y: where there are many parts, several threads share those of an element, each taking every blockDim.y-th.
// What comes out as NaN is computed again by the definition: see tiled_forward.
#define FINISH_THREADS 256

KERNEL __launch_bounds__(FINISH_THREADS, 4)
    backward_weight_finish(const real* __restrict__ partial, const real* __restrict__ x, const real* __restrict__ gy,
                           real* __restrict__ gw, GEOMETRY, int parts) {
  __shared__ double sums[FINISH_THREADS];
  const Geometry g = {GEOMETRY_VALUES};
  const size_t size = (size_t)kh * kw * (c_in / groups) * c_out;
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
  gw[i] = isnan(total) ? (real)sum_for_gw(x, gy, g, (int)(i / c_out), i % c_out) : (real)total;
}

// ---------------------------------------------------------------------------------------- the gradient of the bias
// gb[co] = sum over n, oy, ox of gy[n, oy, ox, co], in double: it may have a million terms. In two kernels, because
// blocks cannot wait for each other: each block adds up a part of the pixels, then one warp per channel adds the parts.
#define BIAS_THREADS 256

// partial[co, part] of pixels first .. last - 1, where `pixels` are cut into gridDim.x parts. With C channels, thread t
// takes elements t, t + R C, t + 2 R C ... where R C is the most that fits into a block: neighbouring threads read
// neighbouring numbers, and a thread always meets the same channel. blockIdx.y: 256 channels, if there are more.
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
