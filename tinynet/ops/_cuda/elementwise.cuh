// Kernels that compute every element of the result from the same element of one or two arrays. They differ in the
// formula only, which they hand over as a function:
//
//     each(x, y, n, [=](real x) { return max(x, 0); });     // for all i: y[i] = max(x[i], 0)
//
// A thread has the pack of elements WIDTH t .. WIDTH t + WIDTH - 1 (pack.cuh), t its number; neighboring threads have
// neighboring packs. The thread at the end may have fewer elements: it takes them one by one.
//
// The result may be one of the arrays read, as in x += y: each element is read before it is written, by the thread that
// writes it. So the pointers are not __restrict__, which would promise that they are different arrays.

template <class F>
__device__ inline void each(const real* a, real* result, size_t n, F formula) {
  const size_t first = WIDTH * thread_number();
  if (first + WIDTH <= n) {
    Pack<real> values = load(a + first);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) values.v[k] = formula(values.v[k]);
    store(result + first, values);
  } else {
    for (size_t i = first; i < n; ++i) result[i] = formula(a[i]);
  }
}

template <class F>
__device__ inline void each(const real* a, const real* b, real* result, size_t n, F formula) {
  const size_t first = WIDTH * thread_number();
  if (first + WIDTH <= n) {
    Pack<real> values = load(a + first);
    const Pack<real> others = load(b + first);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) values.v[k] = formula(values.v[k], others.v[k]);
    store(result + first, values);
  } else {
    for (size_t i = first; i < n; ++i) result[i] = formula(a[i], b[i]);
  }
}
