// The sum of the squares of all gradients of a model, and their scaling, each in one launch for all of them.
//
// Layout: the arrays are found through a table of addresses, block by block; see tensor_table.cuh. A block has up to 2048
// neighboring elements of one gradient, a thread every 256th of them: neighboring threads, neighboring elements.
//
// Versions: one. Each element is read once.
// with _cuda/reduction.cuh
// with _cuda/tensor_table.cuh

// partial (blocks): the sum of the squares of each block's elements.
KERNEL gradient_norm_sums(const u64* __restrict__ addresses, const u64* __restrict__ chunks,
                          double* __restrict__ partial) {
  __shared__ double of_warp[32];
  const real* g = chunk_of(addresses, 1, 0, chunks);
  const size_t size = chunk_size(chunks);
  double sum = 0;
  for (size_t i = threadIdx.x; i < size; i += blockDim.x) sum += (double)g[i] * g[i];
  sum = block_sum(sum, of_warp);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block: total () is the sum over all chunks.
KERNEL gradient_norm_finish(const double* __restrict__ partial, double* __restrict__ total, int chunks) {
  __shared__ double of_warp[32];
  const double sum = finished_sum(partial, chunks, of_warp);
  if (threadIdx.x == 0) *total = sum;
}

KERNEL gradient_norm_scale(const u64* __restrict__ addresses, const u64* __restrict__ chunks, double factor) {
  real* g = chunk_of(addresses, 1, 0, chunks);
  const size_t size = chunk_size(chunks);
  for (size_t i = threadIdx.x; i < size; i += blockDim.x) g[i] *= (real)factor;
}
