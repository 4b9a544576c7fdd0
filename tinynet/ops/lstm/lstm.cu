// lstm: what one step does element by element, derivation.md. The products h U and gz U^T are matmul's.
//
//     z = a + product, product = h_before U          gates: i, f, o = sigmoid(z_i, z_f, z_o), g = tanh(z_g)
//     c = f c_before + i g                           h = o tanh(c)
//
// Versions: one. A thread has unit j of sample n, with its four gates: they lie H numbers apart, so that neighboring
// threads read neighboring numbers of each gate. A step is small; what counts is that it is one launch.
//
// Layout: a, product, gates, ga (samples, 4 hidden); all others (samples, hidden). A sample whose length is not beyond `step` keeps
// its state.

__device__ inline real sigmoid(real z) {
  const real e = exp(-fabs(z));  // never of a positive number, so it cannot overflow
  return (z < 0 ? e : real(1)) / (1 + e);
}

__device__ inline bool goes_on(const i64* lengths, size_t n, int step) { return !lengths || step < lengths[n]; }

KERNEL lstm_forward(const real* __restrict__ a, const real* __restrict__ product, const real* __restrict__ c_before,
                    const real* __restrict__ h_before, real* __restrict__ gates, real* __restrict__ h,
                    real* __restrict__ c,
                    OPTIONAL const i64* __restrict__ lengths, int step, size_t size, int hidden) {
  const size_t k = thread_number();
  if (k >= size) return;
  const size_t n = k / hidden, first = n * 4 * hidden + k % hidden;
  real* gate = gates + first;
  const real *x = a + first, *u = product + first;
  const real i = sigmoid(x[0] + u[0]), f = sigmoid(x[hidden] + u[hidden]);
  const real g = tanh(x[2 * hidden] + u[2 * hidden]), o = sigmoid(x[3 * hidden] + u[3 * hidden]);
  gate[0] = i;
  gate[hidden] = f;
  gate[2 * hidden] = g;
  gate[3 * hidden] = o;
  const bool moves = goes_on(lengths, n, step);
  const real c_new = f * c_before[k] + i * g;
  c[k] = moves ? c_new : c_before[k];
  h[k] = moves ? o * tanh(c_new) : h_before[k];
}

// gh, gc: what comes from the step after; afterwards what goes to the step before, but for gz U^T.
KERNEL lstm_backward(const real* __restrict__ gstates_h, const real* __restrict__ gstates_c,
                     const real* __restrict__ c_before, const real* __restrict__ c, const real* __restrict__ gates,
                     real* __restrict__ gh, real* __restrict__ gc, real* __restrict__ ga,
                     OPTIONAL const i64* __restrict__ lengths, int step, size_t size, int hidden) {
  const size_t k = thread_number();
  if (k >= size) return;
  const size_t n = k / hidden, first = n * 4 * hidden + k % hidden;
  const real* gate = gates + first;
  real* gz = ga + first;
  const real i = gate[0], f = gate[hidden], g = gate[2 * hidden], o = gate[3 * hidden], q = tanh(c[k]);
  const bool moves = goes_on(lengths, n, step);
  const real from_h = gh[k] + gstates_h[k], from_c = gc[k] + gstates_c[k];
  const real total = from_c + from_h * o * (1 - q * q);
  gz[0] = moves ? total * g * i * (1 - i) : real(0);
  gz[hidden] = moves ? total * c_before[k] * f * (1 - f) : real(0);
  gz[2 * hidden] = moves ? total * i * (1 - g * g) : real(0);
  gz[3 * hidden] = moves ? from_h * q * o * (1 - o) : real(0);
  gh[k] = moves ? real(0) : from_h;
  gc[k] = moves ? total * f : from_c;
}
