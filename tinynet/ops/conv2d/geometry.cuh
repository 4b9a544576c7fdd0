// What all kernels of conv2d share: the sizes, and the epilogue that follows the sum of `forward`.

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

// ---------------------------------------------------------------------------------------- the epilogue
// ELU and then dropout, or nothing.
#define EPILOGUE int elu, real alpha, real scale, u64 threshold, u32 seed, u32 stream, u64 step, u64 first

struct Epilogue {
  int elu;
  real alpha, scale;
  u64 threshold;  // an element is kept if its random word is not below; 0 keeps all
  u32 seed, stream;
  u64 step, first;  // first: the number of the random word for element 0

  // z: the sum with its bias. word: the random word of its element.
  __device__ real operator()(real z, u32 word) const {
    return word >= threshold ? (elu ? elu_value(z, alpha) : z) * scale : real(0);
  }
  // The random words of the counter to which element i of y belongs.
  __device__ uint4 words(size_t i) const {
    return threshold ? mask_words((first + i) / 4, step, seed, stream) : make_uint4(0, 0, 0, 0);
  }
  // For element i of y.
  __device__ real at(size_t i, real z) const { return (*this)(z, word_of(words(i), (first + i) % 4)); }
};
#define EPILOGUE_VALUES elu, alpha, scale, threshold, seed, stream, step, first
#define PLAIN {0, 1, 1, 0, 0, 0, 0, 0}  // no ELU, no dropout
