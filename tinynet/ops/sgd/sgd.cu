// A step of SGD, for all parameters of a model in one launch. For each weight:
//
//     d = g + weight_decay p,  v = momentum v + d,  p = p - lr v,  or with nesterov  p = p - lr (d + momentum v)
//
// Layout: the arrays are found through a table of addresses, block by block; see tensor_table.cuh. A block has up to 2048
// neighboring elements of one parameter, a thread every 256th of them: neighboring threads, neighboring elements.
//
// Versions: one. A kernel moves 3 elements for each weight, 5 with momentum, and threads have nothing to share.
// with _cuda/tensor_table.cuh

// Without momentum: p = p - lr d. Roles: parameter, gradient.
KERNEL sgd_step(const u64* __restrict__ addresses, const u64* __restrict__ chunks, double lr, double weight_decay) {
  real* p = chunk_of(addresses, 2, 0, chunks);
  const real* g = chunk_of(addresses, 2, 1, chunks);
  const size_t size = chunk_size(chunks);
  for (size_t i = threadIdx.x; i < size; i += blockDim.x) p[i] -= (real)lr * (g[i] + (real)weight_decay * p[i]);
}

// Roles: parameter, velocity, gradient.
KERNEL sgd_momentum_step(const u64* __restrict__ addresses, const u64* __restrict__ chunks, double lr,
                         double weight_decay, double momentum, int nesterov) {
  real* p = chunk_of(addresses, 3, 0, chunks);
  real* v = chunk_of(addresses, 3, 1, chunks);
  const real* g = chunk_of(addresses, 3, 2, chunks);
  const size_t size = chunk_size(chunks);
  for (size_t i = threadIdx.x; i < size; i += blockDim.x) {
    const real d = g[i] + (real)weight_decay * p[i];
    const real v_i = (real)momentum * v[i] + d;
    v[i] = v_i;
    p[i] -= (real)lr * (nesterov ? d + (real)momentum * v_i : v_i);
  }
}
