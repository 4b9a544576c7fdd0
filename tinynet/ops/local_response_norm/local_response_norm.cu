// Local response normalization across channels, derivation.md:
//
//     s_c = k + alpha sum over |j - c| <= half of x_j^2          y_c = x_c s_c^(-beta)
//     t_c = gy_c x_c s_c^(-beta - 1)
//     gx_i = gy_i s_i^(-beta) - 2 alpha beta x_i sum over |c - i| <= half of t_c
//
// Versions: one. A thread has one channel of one pixel and reads its 2 half + 1 neighbors, which the threads beside it
// read as well: they come from the cache. Shared memory would save reads that cost next to nothing beside the power.
//
// Layout: flat arrays of n elements, channels last, on a one-dimensional grid: element i is channel i mod C.

// The sum of f(v_j) over the channels j around that of element i.
template <class F>
__device__ inline real window_sum(const real* v, size_t i, int channels, int half, F f) {
  const int c = i % channels;
  const int first = max(c - half, 0), last = min(c + half, channels - 1);
  const real* row = v + (i - c);
  real sum = 0;
  for (int j = first; j <= last; ++j) sum += f(row[j]);
  return sum;
}

// s at element i.
__device__ inline real scale_at(const real* x, size_t i, int channels, int half, real k, real alpha) {
  return k + alpha * window_sum(x, i, channels, half, [](real v) { return v * v; });
}

KERNEL lrn_forward(const real* __restrict__ x, real* __restrict__ y, size_t n, int channels, int half, real k,
                   real alpha, real beta) {
  const size_t i = thread_number();
  if (i < n) y[i] = x[i] * pow(scale_at(x, i, channels, half, k, alpha), -beta);
}

// t, which every channel's neighbors will read.
KERNEL lrn_terms(const real* __restrict__ gy, const real* __restrict__ x, real* __restrict__ t, size_t n, int channels,
                 int half, real k, real alpha, real beta) {
  const size_t i = thread_number();
  if (i < n) t[i] = gy[i] * x[i] * pow(scale_at(x, i, channels, half, k, alpha), -beta - 1);
}

KERNEL lrn_backward(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ t,
                    real* __restrict__ gx, size_t n, int channels, int half, real k, real alpha, real beta) {
  const size_t i = thread_number();
  if (i >= n) return;
  const real power = pow(scale_at(x, i, channels, half, k, alpha), -beta);
  const real around = window_sum(t, i, channels, half, [](real v) { return v; });
  gx[i] = gy[i] * power - 2 * alpha * beta * x[i] * around;
}
