// ELU and its derivative, for activations.cu and for the convolutions that finish with it.

// ELU, activations/derivation.md: y = x where x > 0, else alpha (e^x - 1). NaN is not > 0 and comes out of expm1 again.
__device__ inline real elu_value(real x, real alpha) { return x > 0 ? x : alpha * expm1(x); }

// dy/dx, of y itself: alpha e^x = y + alpha.
__device__ inline real elu_slope(real y, real alpha) { return y > 0 ? real(1) : y + alpha; }
