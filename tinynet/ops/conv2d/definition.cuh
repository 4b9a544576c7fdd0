// What all kernels of conv2d share: the sizes, what follows the sum, and the sums as derivation.md defines them.

// ---------------------------------------------------------------------------------------- sizes
#define GEOMETRY                                                                                         \
  int images, int height, int width, int c_in, int kh, int kw, int oh, int ow, int c_out, int stride_y,  \
      int stride_x, int padding_y, int padding_x, int dilation_y, int dilation_x, int groups

struct Geometry {
  int images, height, width, c_in, kh, kw, oh, ow, c_out, stride_y, stride_x, padding_y, padding_x, dilation_y,
      dilation_x, groups;
};
#define GEOMETRY_VALUES                                                                                     \
  images, height, width, c_in, kh, kw, oh, ow, c_out, stride_y, stride_x, padding_y, padding_x, dilation_y, \
      dilation_x, groups

// Whether i is one of 0 .. size - 1. As unsigned numbers, negative ones are larger than any size.
__device__ inline bool is_inside(int i, int size) { return (unsigned)i < (unsigned)size; }

// What follows the sum of `forward`: nothing, or ELU and dropout (room conv_elu_dropout).
#define ACTIVATION int elu, real alpha, real scale, u64 threshold, u32 seed, u32 stream, u64 step

struct Activation {
  int elu;
  real alpha, scale;
  u64 threshold;  // an element is kept where its random word is not below; 0 keeps all
  u32 seed, stream;
  u64 step;

  // Of z, the sum with its bias, and the word of its element.
  __device__ real operator()(real z, u32 word) const {
    return word >= threshold ? (elu ? elu_value(z, alpha) : z) * scale : real(0);
  }
  __device__ uint4 words(size_t block) const {
    return threshold ? mask_words(block, step, seed, stream) : make_uint4(0, 0, 0, 0);
  }
  // Of element i of y.
  __device__ real at(size_t i, real z) const { return (*this)(z, word_of(words(i / 4), i % 4)); }
};
#define ACTIVATION_VALUES elu, alpha, scale, threshold, seed, stream, step

// ---------------------------------------------------------------------------------------- the sums of the definition
// One element of y, without the bias. pixel: counts n, oy, ox.
__device__ inline double sum_for_y(const real* __restrict__ x, const real* __restrict__ w, const Geometry& g,
                                   size_t pixel, int co) {
  const int i_group = g.c_in / g.groups, o_group = g.c_out / g.groups;
  const int first = co / o_group * i_group;  // the first input channel of this output channel's group
  const int ox = pixel % g.ow, oy = pixel / g.ow % g.oh;
  const size_t n = pixel / g.ow / g.oh;
  double total = 0;
  for (int ky = 0; ky < g.kh; ++ky) {
    const int iy = oy * g.stride_y + ky * g.dilation_y - g.padding_y;
    for (int kx = 0; kx < g.kw; ++kx) {
      const int ix = ox * g.stride_x + kx * g.dilation_x - g.padding_x;
      if (!is_inside(iy, g.height) || !is_inside(ix, g.width)) continue;
      const real* x_here = x + ((n * g.height + iy) * g.width + ix) * g.c_in + first;
      const real* w_here = w + (size_t)(ky * g.kw + kx) * i_group * g.c_out + co;
      for (int ci = 0; ci < i_group; ++ci) total += (double)x_here[ci] * w_here[(size_t)ci * g.c_out];
    }
  }
  return total;
}

// One element of gx. pixel: counts n, iy, ix; c: a channel of x, in which group it may be.
__device__ inline double sum_for_gx(const real* __restrict__ gy, const real* __restrict__ w, const Geometry& g,
                                    size_t pixel, int c) {
  const int i_group = g.c_in / g.groups, o_group = g.c_out / g.groups;
  const int first = c / i_group * o_group, ci = c % i_group;
  const int ix = pixel % g.width, iy = pixel / g.width % g.height;
  const size_t n = pixel / g.width / g.height;
  double total = 0;
  for (int ky = 0; ky < g.kh; ++ky) {
    const int y = iy + g.padding_y - ky * g.dilation_y;  // oy times the stride, where that is possible
    for (int kx = 0; kx < g.kw; ++kx) {
      const int x = ix + g.padding_x - kx * g.dilation_x;
      if (y % g.stride_y || x % g.stride_x) continue;
      const int oy = y / g.stride_y, ox = x / g.stride_x;
      if (!is_inside(oy, g.oh) || !is_inside(ox, g.ow)) continue;
      const real* gy_here = gy + ((n * g.oh + oy) * g.ow + ox) * g.c_out + first;
      const real* w_here = w + ((size_t)(ky * g.kw + kx) * i_group + ci) * g.c_out + first;
      for (int co = 0; co < o_group; ++co) total += (double)gy_here[co] * w_here[co];
    }
  }
  return total;
}

// One element of gw. row: counts ky, kx, ci.
__device__ inline double sum_for_gw(const real* __restrict__ x, const real* __restrict__ gy, const Geometry& g, int row,
                                    int co) {
  const int i_group = g.c_in / g.groups, o_group = g.c_out / g.groups;
  const int ci = row % i_group, kx = row / i_group % g.kw, ky = row / i_group / g.kw;
  const int c = co / o_group * i_group + ci;
  double total = 0;
  for (size_t n = 0; n < (size_t)g.images; ++n)
    for (int oy = 0; oy < g.oh; ++oy) {
      const int iy = oy * g.stride_y + ky * g.dilation_y - g.padding_y;
      if (!is_inside(iy, g.height)) continue;
      const real* x_row = x + (n * g.height + iy) * g.width * g.c_in + c;
      const real* gy_row = gy + (n * g.oh + oy) * g.ow * g.c_out + co;
      for (int ox = 0; ox < g.ow; ++ox) {
        const int ix = ox * g.stride_x + kx * g.dilation_x - g.padding_x;
        if (is_inside(ix, g.width)) total += (double)x_row[(size_t)ix * g.c_in] * gy_row[(size_t)ox * g.c_out];
      }
    }
  return total;
}
