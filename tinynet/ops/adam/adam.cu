// A step of Adam, for all parameters of a model in one launch. For each weight, with the constants that settings.py computes:
//
//     p = keep p
//     g = g + weight_decay p
//     m = m + one_minus_beta1 (g - m)
//     v = v + one_minus_beta2 (g^2 - v)
//     p = p - rate m / (sqrt(v) + eps)
//
// Layout: the arrays are found through a table of addresses, block by block; see tensor_table.cuh. A block has up to 2048
// neighboring elements of one parameter, a thread every 256th of them: neighboring threads, neighboring elements.
//
// Versions: one. The kernel reads 4 and writes 3 elements for each weight, and threads have nothing to share.
// with _cuda/tensor_table.cuh

KERNEL adam_step(const u64* __restrict__ addresses, const u64* __restrict__ chunks, double keep,
                 double weight_decay, double one_minus_beta1, double one_minus_beta2, double rate, double eps) {
  real* p = chunk_of(addresses, 4, 0, chunks);
  real* m = chunk_of(addresses, 4, 1, chunks);
  real* v = chunk_of(addresses, 4, 2, chunks);
  const real* g = chunk_of(addresses, 4, 3, chunks);
  const size_t size = chunk_size(chunks);
  for (size_t i = threadIdx.x; i < size; i += blockDim.x) {
    const real p_i = (real)keep * p[i];
    const real g_i = g[i] + (real)weight_decay * p_i;
    const real m_i = m[i] + (real)one_minus_beta1 * (g_i - m[i]);
    const real v_i = v[i] + (real)one_minus_beta2 * (g_i * g_i - v[i]);
    m[i] = m_i;
    v[i] = v_i;
    p[i] = p_i - (real)rate * m_i / (sqrt(v_i) + (real)eps);
  }
}
