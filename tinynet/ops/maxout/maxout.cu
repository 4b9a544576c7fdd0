// Maxout, derivation.md:  y[m] = max over j of x[m pieces + j], winner[m] = the j where it was found
//                         gx[m pieces + j] = gy[m] where j = winner[m], else 0
// Of equal values the first wins; NaN is larger than any number, and of two the first.
//
// One version: threads of a warp read `pieces` runs of memory which together are contiguous, and what the first run
// brings into the cache serves the others.
//
// Layout: a group of pieces is contiguous, so all arrays are flat. The grid is one-dimensional.

// A thread for each unit m.
KERNEL maxout_forward(const real* __restrict__ x, real* __restrict__ y, int* __restrict__ winner, size_t units,
                      int pieces) {
  const size_t m = thread_number();
  if (m >= units) return;
  const real* group = x + m * pieces;
  real champion = group[0];
  int best = 0;
  for (int j = 1; j < pieces; ++j) {
    const real value = group[j];
    // The second condition lets the first NaN win: it is the only number that differs from itself.
    if (value > champion || (value != value && champion == champion)) {
      champion = value;
      best = j;
    }
  }
  y[m] = champion;
  winner[m] = best;
}

// A thread for each element of gx: so neighboring threads write neighbors.
KERNEL maxout_backward(const real* __restrict__ gy, const int* __restrict__ winner, real* __restrict__ gx, size_t n,
                       int pieces) {
  const size_t i = thread_number();
  if (i >= n) return;
  const size_t m = i / pieces;
  gx[i] = winner[m] == (int)(i - m * pieces) ? gy[m] : real(0);
}
