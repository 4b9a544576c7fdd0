// conv_elu_dropout, the way back; derivation.md:
//
//   gz[i] = gy[i] m[i] / (1 - p) * e'(z[i])      e' = 1 where y[i] > 0, else (1 - p) y[i] + alpha
//                                                m[i] = 1 where word j mod 4 of Philox(.., j div 4) >= round(p 2^32), else 0,
//                                                       j = first + i
//
// The way forward is conv2d's own, with the activation on each result while it is in a register: conv2d/conv2d.cu.
//
// Versions, both from this text (pack.cuh), as in dropout/dropout.cu:
//   1 (WIDTH 1)  a thread for each element. It draws four words, of which it needs one. Any dtype, any address.
//   2 (WIDTH 4)  a thread for the four elements of one counter, which are drawn, read and written at once. `first` must
//                be a multiple of 4.
//
// Layout: flat arrays of n elements, i is the index in C order.

// with _cuda/pack.cuh
// with _cuda/activations.cuh

// scale = 1 / (1 - p), keep = 1 - p. threshold 0: no dropout, no word is drawn. gz may be the array of gy.
KERNEL conv_elu_dropout_backward(const real* gy, const real* y, real* gz, size_t n, real alpha, real keep, real scale,
                                 u64 threshold, u32 seed, u32 stream, u64 step, u64 first) {
  const size_t start = WIDTH * thread_number();
  const uint4 words = threshold ? mask_words((first + start) / 4, step, seed, stream) : make_uint4(0, 0, 0, 0);
  const auto gradient = [=](real g, real result, size_t i) {
    return word_of(words, (first + i) % 4) >= threshold ? g * scale * elu_slope(result * keep, alpha) : real(0);
  };
  if (start + WIDTH <= n) {
    Pack<real> values = load(gy + start);
    const Pack<real> results = load(y + start);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) values.v[k] = gradient(values.v[k], results.v[k], start + k);
    store(gz + start, values);
  } else {
    for (size_t i = start; i < n; ++i) gz[i] = gradient(gy[i], y[i], i);
  }
}
