// The activation functions. The formulas are those of entries.py, and derivation.md says where they come from:
// y = f(x) element by element, and gx = gy f'(x), with the derivative f'(x) written by y = f(x), which backward has at
// hand.
//
// Versions, both from this text:
//   1 (WIDTH 1)  a thread for each element. Any dtype, any address.
//   2 (WIDTH 4)  a thread for four neighbors, read and written in one instruction each. The work per element is small,
//                so what counts is how many bytes are under way: four times as many for each instruction, and the
//                addresses are computed once for four. float32 at addresses that are multiples of 16 bytes.
//
// Layout: flat arrays of n elements on a one-dimensional grid; which thread has which elements: elementwise.cuh.
//
// NaN comes out as NaN: every comparison with it is false, and the branch taken then computes with it or hands it on.

// with _cuda/pack.cuh
// with _cuda/elementwise.cuh
// with _cuda/activations.cuh

KERNEL elu_forward(const real* x, real* y, size_t n, real alpha) {
  each(x, y, n, [=](real x) { return elu_value(x, alpha); });
}

KERNEL elu_backward(const real* gy, const real* y, real* gx, size_t n, real alpha) {
  each(gy, y, gx, n, [=](real gy, real y) { return gy * elu_slope(y, alpha); });
}

KERNEL sigmoid_forward(const real* x, real* y, size_t n) {
  each(x, y, n, [](real x) {
    const real e = exp(-fabs(x));  // never of a positive number, so it cannot overflow
    return (x < 0 ? e : real(1)) / (1 + e);
  });
}

KERNEL sigmoid_backward(const real* gy, const real* y, real* gx, size_t n) {
  each(gy, y, gx, n, [](real gy, real y) { return gy * y * (1 - y); });
}

KERNEL relu_forward(const real* x, real* y, size_t n) {
  each(x, y, n, [](real x) { return x <= 0 ? real(0) : x; });  // not `x > 0 ? x : 0`, which would turn NaN into 0
}

KERNEL relu_backward(const real* gy, const real* y, real* gx, size_t n) {
  each(gy, y, gx, n, [](real gy, real y) { return y > 0 ? gy : real(0); });
}

KERNEL relu6_forward(const real* x, real* y, size_t n) {
  each(x, y, n, [](real x) { return x <= 0 ? real(0) : x >= 6 ? real(6) : x; });
}

KERNEL relu6_backward(const real* gy, const real* y, real* gx, size_t n) {
  each(gy, y, gx, n, [](real gy, real y) { return y > 0 && y < 6 ? gy : real(0); });
}

KERNEL leaky_relu_forward(const real* x, real* y, size_t n, real slope) {
  each(x, y, n, [=](real x) { return x > 0 ? x : slope * x; });
}

KERNEL leaky_relu_backward(const real* gy, const real* y, real* gx, size_t n, real slope) {
  each(gy, y, gx, n, [=](real gy, real y) { return y > 0 ? gy : slope * gy; });
}

KERNEL tanh_forward(const real* x, real* y, size_t n) {
  each(x, y, n, [](real x) { return tanh(x); });
}

KERNEL tanh_backward(const real* gy, const real* y, real* gx, size_t n) {
  each(gy, y, gx, n, [](real gy, real y) { return gy * ((1 - y) * (1 + y)); });
}

KERNEL softplus_forward(const real* x, real* y, size_t n) {
  each(x, y, n, [](real x) { return (x > 0 ? x : real(0)) + log1p(exp(-fabs(x))); });
}

KERNEL softplus_backward(const real* gy, const real* y, real* gx, size_t n) {
  each(gy, y, gx, n, [](real gy, real y) { return gy * -expm1(-y); });
}
