// Softmax cross-entropy. L = (1/W) sum over rows of w_t [log(sum_k exp(x_k - m)) - (x_t - m)], W = sum over rows of w_t;
// gx = gy (w_t / W) (p_c - [c = t]) with p_c = exp(x_c - m) / sum_k exp(x_k - m). Letters as in derivation.md.
//
// Layout: x, gx (rows, classes), t (rows), w (classes). A row is shared by `lanes` neighboring threads of a warp, the
// power of two that is not below `classes`, 32 at most: for pixels of two classes two threads, for a thousand classes a
// whole warp, each thread of it with every 32nd class. Neighboring threads have neighboring classes in either case,
// and the maximum and the sum of a row are found by shuffles, without shared memory.
//
// Versions: one. A thread to a row is shorter to write and as good for two classes; for many, the threads of a warp would
// read numbers that lie a row apart, each from another piece of memory.
//
// A target that is no class would be read from beyond the row. On a GPU nobody has looked at the targets before, so such
// a row gives NaN: the loss is NaN, and so is the row's gradient.
// with _cuda/reduction.cuh

__device__ inline bool is_class(i64 t, int classes) { return 0 <= t && t < classes; }

// w_t: the weight of a row with target t.
__device__ inline real weight_of(i64 t, const real* w, int classes) {
  if (!is_class(t, classes)) return (real)nan("");
  return w ? w[t] : (real)1;
}

// m and the sum of exp(x_k - m) of a row, in all the threads that share it. All threads of the warp must come here.
// fmax passes a NaN over, but the sum does not.
__device__ inline void maximum_and_sum(const real* row, int classes, int lane, int lanes, real& m, real& s) {
  m = row[0];
  for (int c = lane; c < classes; c += lanes) m = fmax(m, row[c]);
  for (int d = lanes / 2; d > 0; d /= 2) m = fmax(m, __shfl_xor_sync(0xffffffffu, m, d));
  s = 0;
  for (int c = lane; c < classes; c += lanes) s += exp(row[c] - m);
  for (int d = lanes / 2; d > 0; d /= 2) s += __shfl_xor_sync(0xffffffffu, s, d);
}

// Block b has rows b * chunk to (b + 1) * chunk. partial (2, blocks): the sums of w_t l and of w_t over them.
KERNEL softmax_cross_entropy_sums(const real* __restrict__ x, const i64* __restrict__ t,
                                  OPTIONAL const real* __restrict__ w, double* __restrict__ partial, size_t rows,
                                  size_t chunk, int classes, int lanes) {
  __shared__ double of_warp[2][32];
  const int lane = threadIdx.x % lanes;
  const size_t first = (size_t)blockIdx.x * chunk, end = first + chunk < rows ? first + chunk : rows;
  double loss = 0, weight = 0;
  for (size_t next = first; next < end; next += blockDim.x / lanes) {
    const size_t r = next + threadIdx.x / lanes;
    const bool is_row = r < end;
    const real* row = x + (is_row ? r : first) * classes;  // threads without a row of their own shuffle along
    real m, s;
    maximum_and_sum(row, classes, lane, lanes, m, s);
    if (is_row && lane == 0) {
      const i64 t_r = t[r];
      const real w_t = weight_of(t_r, w, classes), x_t = row[is_class(t_r, classes) ? t_r : 0];
      loss += w_t * (log(s) - (x_t - m));
      weight += w_t;
    }
  }
  loss = block_sum(loss, of_warp[0]);
  weight = block_sum(weight, of_warp[1]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = loss;
    partial[gridDim.x + blockIdx.x] = weight;
  }
}

// One block: loss () is the first sum over the second.
KERNEL softmax_cross_entropy_finish(const double* __restrict__ partial, real* __restrict__ loss, int chunks) {
  __shared__ double of_warp[2][32];
  const double sum = finished_sum(partial, chunks, of_warp[0]);
  const double total_weight = finished_sum(partial + chunks, chunks, of_warp[1]);
  if (threadIdx.x == 0) *loss = (real)(sum / total_weight);
}

// For backward with weights. partial (blocks): the sum of w_t over each block's rows.
KERNEL softmax_cross_entropy_weights(const i64* __restrict__ t, const real* __restrict__ w,
                                     double* __restrict__ partial, size_t rows, size_t chunk, int classes) {
  __shared__ double of_warp[32];
  const size_t first = (size_t)blockIdx.x * chunk, end = first + chunk < rows ? first + chunk : rows;
  double sum = 0;
  for (size_t r = first + threadIdx.x; r < end; r += blockDim.x) sum += weight_of(t[r], w, classes);
  sum = block_sum(sum, of_warp);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block: total_weight () is W.
KERNEL softmax_cross_entropy_total_weight(const double* __restrict__ partial, real* __restrict__ total_weight,
                                          int chunks) {
  __shared__ double of_warp[32];
  const double sum = finished_sum(partial, chunks, of_warp);
  if (threadIdx.x == 0) *total_weight = (real)sum;
}

// total_weight (): W; without weights a null pointer, W is then the number of rows.
KERNEL softmax_cross_entropy_backward(const real* __restrict__ gy, const real* __restrict__ x,
                                      const i64* __restrict__ t, OPTIONAL const real* __restrict__ w,
                                      OPTIONAL const real* __restrict__ total_weight, real* __restrict__ gx,
                                      size_t rows, int classes, int lanes) {
  const size_t r = thread_number() / lanes;
  const int lane = threadIdx.x % lanes;
  const bool is_row = r < rows;
  const size_t row_start = (is_row ? r : 0) * classes;  // threads without a row of their own shuffle along
  real m, s;
  maximum_and_sum(x + row_start, classes, lane, lanes, m, s);
  if (!is_row) return;
  const i64 t_r = t[r];
  const real factor = *gy * weight_of(t_r, w, classes) / (total_weight ? *total_weight : (real)rows);
  for (int c = lane; c < classes; c += lanes) {
    gx[row_start + c] = factor * (exp(x[row_start + c] - m) / s - (c == t_r ? 1 : 0));
  }
}
