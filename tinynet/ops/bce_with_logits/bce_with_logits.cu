// Binary cross-entropy with logits. L = (1/n) sum w [q t softplus(-x) + (1 - t) softplus(x)], softplus(x) = log(1 + exp(x));
// gx = gy (w / n) [(1 - t) sigma(x) - q t sigma(-x)]. Letters as in derivation.md, n for its M; q is pos_weight.
//
// Layout: x, t, w, gx (n), any shape. In forward, block b has elements b * chunk to (b + 1) * chunk; in backward, each
// thread has one, because there is nothing that elements could share. Neighboring threads have neighboring elements.
//
// Versions: one. Each element is read once; what it takes is memory, not arithmetic. A loss is computed in `real`, the
// sum is double.
// with _cuda/reduction.cuh

// partial (blocks): the sum of the losses of each block's elements.
KERNEL bce_sums(const real* __restrict__ x, const real* __restrict__ t, OPTIONAL const real* __restrict__ w,
                double* __restrict__ partial, size_t n, size_t chunk, real q) {
  __shared__ double of_warp[32];
  const size_t first = (size_t)blockIdx.x * chunk, end = first + chunk < n ? first + chunk : n;
  double sum = 0;
  for (size_t i = first + threadIdx.x; i < end; i += blockDim.x) {
    const real x_i = x[i], t_i = t[i];
    const real log_part = log1p(exp(-fabs(x_i)));  // the large part of softplus taken out: nothing overflows
    const real softplus_x = fmax(x_i, (real)0) + log_part, softplus_minus_x = fmax(-x_i, (real)0) + log_part;
    const real loss = q * t_i * softplus_minus_x + (1 - t_i) * softplus_x;
    sum += w ? w[i] * loss : loss;
  }
  sum = block_sum(sum, of_warp);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block: loss () is the mean over all n elements.
KERNEL bce_finish(const double* __restrict__ partial, real* __restrict__ loss, int chunks, size_t n) {
  __shared__ double of_warp[32];
  const double sum = finished_sum(partial, chunks, of_warp);
  if (threadIdx.x == 0) *loss = (real)(sum / n);
}

KERNEL bce_backward(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ t,
                    OPTIONAL const real* __restrict__ w, real* __restrict__ gx, size_t n, real q) {
  const size_t i = thread_number();
  if (i >= n) return;
  const real x_i = x[i], t_i = t[i];
  const real e = exp(-fabs(x_i));
  const real sigma_x = (x_i < 0 ? e : 1) / (1 + e), sigma_minus_x = (x_i < 0 ? 1 : e) / (1 + e);
  const real slope = (1 - t_i) * sigma_x - q * t_i * sigma_minus_x;
  gx[i] = *gy / n * (w ? w[i] * slope : slope);
}
