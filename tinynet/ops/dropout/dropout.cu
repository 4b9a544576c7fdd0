// Dropout, derivation.md:  y[i] = x[i] / (1 - p) where r[i] >= round(p 2^32), else 0
//                          r[i] = word j mod 4 of Philox(key (seed, stream), counter (j div 4, step)), j = first + i
// The gradient is the same kernel applied to gy: the mask is drawn again, nothing is stored.
//
// Versions, both from this text:
//   1 (WIDTH 1)  a thread for each element. It draws four words, of which it needs one. Any dtype, any address.
//   2 (WIDTH 4)  a thread for the four elements of one counter: Philox, ten rounds of two 64-bit products each, runs
//                once for the four, and they are read and written in one instruction (pack.cuh). float32 at addresses
//                that are multiples of 16 bytes, and `first` a multiple of 4: else the four have two counters.
//
// Layout: flat arrays of n elements, i is the index in C order. The grid is one-dimensional; thread t has the elements
// WIDTH t .. WIDTH t + WIDTH - 1.

// with _cuda/pack.cuh

// threshold: round(p 2^32), in 64 bits: for p just below 1 it is 2^32, and then nothing is kept.
// x and y may be the same array, so they are not __restrict__: an element is read before it is written, by one thread.
KERNEL dropout_forward(const real* x, real* y, size_t n, real scale, u64 threshold, u32 seed, u32 stream, u64 step,
                       u64 first) {
  const size_t start = WIDTH * thread_number();
  const uint4 words = mask_words((first + start) / 4, step, seed, stream);
  const auto dropped_or_scaled = [=](real value, size_t i) {
    return word_of(words, (first + i) % 4) >= threshold ? value * scale : real(0);
  };
  if (start + WIDTH <= n) {
    Pack<real> values = load(x + start);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) values.v[k] = dropped_or_scaled(values.v[k], start + k);
    store(y + start, values);
  } else {
    for (size_t i = start; i < n; ++i) y[i] = dropped_or_scaled(x[i], i);
  }
}
