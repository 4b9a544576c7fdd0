// Batch normalization, derivation.md. For every channel of x (rows, channels), m rows:
//
//     mean = 1/m sum x          var = 1/m sum (x - mean)^2         r = 1/sqrt(var + eps)      u = r (x - mean)
//     y = gamma u + beta        gbeta = sum gy      ggamma = sum gy u
//     gx = gamma r (gy - gbeta/m - u ggamma/m)
//
// Versions: one. What takes time is reading x and gy, which neighboring threads do side by side.
//
// The sums: `parts` blocks each add up some of the rows, in double; then a warp for each channel adds their results. In
// two kernels because blocks cannot wait for each other, and in a fixed order, so that the bits are always the same.
// The variance takes a second round, about the mean: a difference of two large sums would have no digits left.
//
// Layout: channels last. In the sums, with C channels, thread t of a block takes elements t, t + R C, t + 2 R C ... where
// R C is the most that fits into a block: neighboring threads read neighboring numbers, and a thread always meets the
// same channel. blockIdx.y: 256 channels, if there are more. Elsewhere a thread has one element.

#define THREADS 256

// partial[channel, part]: the sum of f(i, channel), i an element's number, over a part of the rows.
template <class F>
__device__ inline void channel_sums(double* partial, size_t rows, int channels, double* sums, F f) {
  const int first = blockIdx.y * THREADS, here = min(channels - first, THREADS);
  const int at_once = THREADS / here, row = threadIdx.x / here, c = first + threadIdx.x % here;
  const size_t last = rows * (blockIdx.x + 1) / gridDim.x;
  double total = 0;
  if (row < at_once) {
    for (size_t p = rows * blockIdx.x / gridDim.x + row; p < last; p += at_once) total += f(p * channels + c, c);
  }
  sums[threadIdx.x] = total;
  __syncthreads();
  if (row == 0) {
    for (int r = 1; r < at_once; ++r) total += sums[r * here + threadIdx.x];
    partial[(size_t)c * gridDim.x + blockIdx.x] = total;
  }
  __syncthreads();  // sums may be used again
}

KERNEL batch_norm_sums(const real* __restrict__ x, double* __restrict__ partial, size_t rows, int channels) {
  __shared__ double sums[THREADS];
  channel_sums(partial, rows, channels, sums, [=](size_t i, int c) { return (double)x[i]; });
}

KERNEL batch_norm_squares(const real* __restrict__ x, const double* __restrict__ mean, double* __restrict__ partial,
                          size_t rows, int channels) {
  __shared__ double sums[THREADS];
  channel_sums(partial, rows, channels, sums, [=](size_t i, int c) {
    const double d = x[i] - mean[c];
    return d * d;
  });
}

// partial (2, channels, parts): the sums of gy u and of gy.
KERNEL batch_norm_parameter_sums(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ mean,
                                 const real* __restrict__ var, double* __restrict__ partial, size_t rows, int channels,
                                 real eps) {
  __shared__ double sums[THREADS];
  channel_sums(partial, rows, channels, sums, [=](size_t i, int c) {
    return (double)(gy[i] * (x[i] - mean[c])) / sqrt((double)var[c] + eps);
  });
  channel_sums(partial + (size_t)channels * gridDim.x, rows, channels, sums,
               [=](size_t i, int c) { return (double)gy[i]; });
}

// A block of 32 threads for each sum. result (sums): the sum over the parts, divided; wide: the same in double.
KERNEL batch_norm_finish(const double* __restrict__ partial, real* __restrict__ result, double* __restrict__ wide,
                         int parts, double divisor) {
  double total = 0;
  for (int part = threadIdx.x; part < parts; part += 32) total += partial[(size_t)blockIdx.x * parts + part];
  total = warp_sum(total) / divisor;
  if (threadIdx.x == 0) {
    wide[blockIdx.x] = total;
    result[blockIdx.x] = (real)total;
  }
}

KERNEL batch_norm_normalize(const real* __restrict__ x, const real* __restrict__ mean, const real* __restrict__ var,
                            const real* __restrict__ gamma, const real* __restrict__ beta, real* __restrict__ y,
                            size_t n, int channels, real eps) {
  const size_t i = thread_number();
  if (i >= n) return;
  const int c = i % channels;
  y[i] = (x[i] - mean[c]) * (gamma[c] / sqrt(var[c] + eps)) + beta[c];
}

KERNEL batch_norm_backward_input(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ mean,
                                 const real* __restrict__ var, const real* __restrict__ gamma,
                                 const real* __restrict__ ggamma, const real* __restrict__ gbeta, real* __restrict__ gx,
                                 size_t n, int channels, real m, real eps) {
  const size_t i = thread_number();
  if (i >= n) return;
  const int c = i % channels;
  const real r = 1 / sqrt(var[c] + eps), u = (x[i] - mean[c]) * r;
  gx[i] = gamma[c] * r * (gy[i] - gbeta[c] / m - u * (ggamma[c] / m));
}
