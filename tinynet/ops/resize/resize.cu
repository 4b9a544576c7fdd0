// Resizing along one axis: y[a, j, b] lies between x[a, lower[j], b] and the next one. derivation.md.
//
//     resize           y[a, j, b] = (1 - f) x[a, i, b] + f x[a, i + 1, b],      i = lower[j], f = fraction[j]
//     resize_backward  gx[a, i, b] = sum of (1 - f) gy[a, j, b] over the j with lower[j] = i
//                                  + sum of f gy[a, j, b] over the j with lower[j] = i - 1
//
// One version of each: a thread for an element of the result. `lower` never decreases, so the outputs that an input went
// into lie side by side: starts[i] .. starts[i + 2] - 1. A thread for each output would have to add atomically.

KERNEL resize(const real* __restrict__ x, const i64* __restrict__ lower, const real* __restrict__ fraction,
              real* __restrict__ y, size_t size, int n, int m, size_t row) {
  for (size_t item = thread_number(); item < size; item += thread_count()) {
    const size_t line = item / row, b = item % row, a = line / m;
    const int j = (int)(line % m);
    const real f = fraction[j];
    const real* first = x + (a * n + lower[j]) * row + b;
    y[item] = f == 0 ? *first : (1 - f) * *first + f * first[row];
  }
}

KERNEL resize_backward(const real* __restrict__ gy, const i64* __restrict__ lower, const real* __restrict__ fraction,
                       const i64* __restrict__ starts, real* __restrict__ gx, size_t size, int n, int m, size_t row) {
  for (size_t item = thread_number(); item < size; item += thread_count()) {
    const size_t line = item / row, b = item % row, a = line / n;
    const int i = (int)(line % n);
    real total = 0;
    for (i64 j = starts[i]; j < starts[i + 2]; ++j)
      total += (lower[j] == i ? 1 - fraction[j] : fraction[j]) * gy[(a * m + j) * row + b];
    gx[item] = total;
  }
}
