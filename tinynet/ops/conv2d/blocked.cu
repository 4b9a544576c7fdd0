// with _cuda/activations.cuh
// with conv2d/geometry.cuh
// with _cuda/product.cuh
// with _cuda/gemm.cuh
// with conv2d/tile.cuh

// conv2d by products of matrices, versions 3 and 4 of the list in conv2d.cu: `forward` and `backward_input`. The matrices
// are never stored: gemm.cuh asks for their elements, and the loaders below say where in x, w and gy these lie ("implicit"
// matrices). blocked_weight.cu has `backward_weight`.
//
//                       rows m                    terms k                      columns n
//   forward             pixels of y               ky, kx, channels of x        channels of y
//   backward_input      pixels of x, by phases    taps of the phase, co        channels of x
//   backward_weight     ky, kx, channels of x     pixels of y                  channels of y
//
// With groups, all of this is within a group: blockIdx.z. The macros are those of tile.cuh.

// ---------------------------------------------------------------------------------------- 3 blocked, 4 tf32
// `forward` and `backward_input` are correlations. What they have in common, along one axis (derivation.md, "phases"):
struct Axis {
  int results, first, step;              // result j = 0 .. results - 1 lies at first + j step
  int size, stride, padding, dilation;   // and reads, with tap t, the input at j stride + t dilation - padding, if inside
  int taps, first_tap, tap_step;         // tap t is row first_tap + t tap_step of w
};

// Of a block: in shared memory, where they take no registers from the product.
struct Axes {
  Axis y, x;
};

__device__ inline Axis forward_axis(int size, int kernel, int out, int stride, int padding, int dilation) {
  return {out, 0, 1, size, stride, padding, dilation, kernel, 0, 1};
}

// Phase a of backward_input: the inputs i = a, a + stride, ... sum over the outputs o = (i + padding - k dilation) / stride
// of the taps k for which o is an integer. In decreasing order of k, these o increase by equal steps.
__device__ inline Axis phase_axis(int a, int size, int kernel, int out, int stride, int padding, int dilation) {
  Axis axis = {(size - a + stride - 1) / stride, a, stride, out, 1, 0, 0, 0, 0, 0};
  for (int k = kernel - 1; k >= 0; --k) {
    const int reached = a + padding - k * dilation;
    if (reached % stride) continue;
    if (axis.taps == 0) {
      axis.first_tap = k;
      axis.padding = -(reached / stride);
    } else if (axis.taps == 1) {
      axis.tap_step = k - axis.first_tap;
      axis.dilation = reached / stride + axis.padding;
    }
    ++axis.taps;
  }
  return axis;
}

// The sum over taps and channels as one index k. The channels of each tap are padded with zeros to whole steps of the
// product, so a step never holds two taps.
struct Terms {
  int padded, taps_x;       // channels of a tap, padded; taps along x
  int channel, tap_x, tap_y;

  __device__ void start(int k) {
    channel = k % padded;
    tap_x = k / padded % taps_x;
    tap_y = k / padded / taps_x;
  }

  // Returns whether another tap begins.
  __device__ bool advance(int terms) {
    channel += terms;
    if (channel < padded) return false;
    channel -= padded;
    if (++tap_x == taps_x) {
      tap_x = 0;
      ++tap_y;
    }
    return true;
  }
};

// A[m, k]: what result m = (n, jy, jx) reads for term k.
struct Input {
  static constexpr bool ALONG_K = true;
  const float* x;  // of the first channel of the group
  const Axes* axes;
  int images, pitch, channels;  // pitch: of a pixel in x; channels: of the group
  Terms at;

  int origin, top, left;  // the pixel of x that tap 0 reads, its row and column: it may lie outside of the image
  int offset;             // from there to the pixel of the present tap: the same for all rows of A
  bool inside;

  __device__ void start(size_t line, size_t k) {
    const u32 m = (u32)line;
    const int jx = m % axes->x.results, jy = m / axes->x.results % axes->y.results;
    const int n = m / axes->x.results / axes->y.results;
    top = jy * axes->y.stride - axes->y.padding;
    left = jx * axes->x.stride - axes->x.padding;
    origin = (n * axes->y.size + top) * axes->x.size + left;
    if (n >= images) top = -(1 << 30);  // the rows of the tile behind the last pixel: outside for every tap
    at.start((int)k);
    find();
  }

  __device__ void find() {
    const int down = at.tap_y * axes->y.dilation, right = at.tap_x * axes->x.dilation;
    inside = is_inside(top + down, axes->y.size) && is_inside(left + right, axes->x.size);
    offset = down * axes->x.size + right;
  }

  __device__ float4 fetch() const {
    return load4(x + (i64)(origin + offset) * pitch + at.channel, inside ? channels - at.channel : 0, VECTOR);
  }

  __device__ void advance(int terms) {
    if (at.advance(terms)) find();
  }
};

// B[k, n] of forward: w[ky, kx, ci, co], in the order in which it lies in memory.
struct Weight {
  static constexpr bool ALONG_K = false;
  const float* w;  // of the first output channel of the group
  int pitch, i_group, o_group;
  Terms at;

  const float* here;
  int count;  // channels from `line` on

  __device__ void start(size_t line, size_t k) {
    at.start((int)k);
    here = w + ((size_t)(at.tap_y * at.taps_x + at.tap_x) * i_group + at.channel) * pitch + line;
    count = o_group - (int)line;
  }

  __device__ float4 fetch() const { return load4(here, at.channel < i_group ? count : 0, VECTOR); }

  __device__ void advance(int terms) {
    here += (size_t)terms * pitch;
    if (at.advance(terms)) here -= (size_t)(at.padded - i_group) * pitch;
  }
};

// B[k, n] of backward_input: w[ky, kx, ci, co] where n is ci, and k counts the taps of the phase and co.
struct RotatedWeight {
  static constexpr bool ALONG_K = true;
  const float* w;  // of the first output channel of the group
  const Axes* axes;
  int pitch, kw, i_group, o_group;
  Terms at;

  const float* here;
  int ci;

  __device__ void start(size_t line, size_t k) {
    ci = (int)line;
    at.start((int)k);
    find();
  }

  __device__ void find() {
    const int ky = axes->y.first_tap + at.tap_y * axes->y.tap_step;
    const int kx = axes->x.first_tap + at.tap_x * axes->x.tap_step;
    here = w + ((i64)(ky * kw + kx) * i_group + ci) * pitch + at.channel;
  }

  __device__ float4 fetch() const { return load4(here, ci < i_group ? o_group - at.channel : 0, VECTOR); }

  __device__ void advance(int terms) {
    here += terms;
    if (at.advance(terms)) find();
  }
};

// Takes the sums, adds the bias, applies the epilogue, and writes channels of the group to pixel m of the result.
// PHASES: true if the results of the correlation are one phase of the pixels, not all.
template <bool PHASES>
struct Output {
  float* y;
  const float* b;
  const Axes* axes;
  u32 rows;                                  // pixels in all images
  int height, width, pitch, first, channels;  // first, channels: of the group
  Epilogue epilogue;

  __device__ size_t pixel(u32 m) const {
    if (!PHASES) return m;
    const u32 jx = m % axes->x.results, jy = m / axes->x.results % axes->y.results;
    const size_t n = m / axes->x.results / axes->y.results;
    return (n * height + axes->y.first + jy * axes->y.step) * width + axes->x.first + jx * axes->x.step;
  }

  __device__ void store(size_t row, int column, float4 z) const {
    if (row >= rows) return;
    const int count = channels - column;
    const size_t i = pixel((u32)row) * pitch + first + column;
    if (b) {
      const float4 bias = load4(b + first + column, count, VECTOR);
      z = make_float4(z.x + bias.x, z.y + bias.y, z.z + bias.z, z.w + bias.w);
    }
    if (VECTOR) {
      const uint4 words = epilogue.words(i);
      z = make_float4(epilogue(z.x, words.x), epilogue(z.y, words.y), epilogue(z.z, words.z),
                      epilogue(z.w, words.w));
    } else {
#pragma unroll 1  // rare, so one copy of the code is enough: it rotates the four elements and changes the last
      for (int q = 0; q < 4; ++q) z = make_float4(z.y, z.z, z.w, epilogue.at(i + q, z.x));
    }
    store4(y + i, z, count, VECTOR);
  }
};

// blockIdx.z: the group.
KERNEL __launch_bounds__(GEMM_THREADS, 3)
    blocked_forward(const real* __restrict__ x, const real* __restrict__ w, OPTIONAL const real* __restrict__ b,
                    real* __restrict__ y, GEOMETRY, EPILOGUE) {
  __shared__ Tile::Tiles tiles;
  __shared__ Axes axes;
  if (threadIdx.x == 0)
    axes = {forward_axis(height, kh, oh, stride_y, padding_y, dilation_y),
            forward_axis(width, kw, ow, stride_x, padding_x, dilation_x)};
  __syncthreads();
  const int i_group = c_in / groups, o_group = c_out / groups, group = blockIdx.z;
  const Terms terms = {padded_to(i_group, Tile::TILE_K), kw, 0, 0, 0};
  const Input input = {x + group * i_group, &axes, images, c_in, i_group, terms};
  const Weight weight = {w + group * o_group, c_out, i_group, o_group, terms};
  const u32 rows = (u32)images * oh * ow;
  const Output<false> output = {y, b, &axes, rows, oh, ow, c_out, group * o_group, o_group, {EPILOGUE_VALUES}};
  const Place place(blockIdx.x, o_group);
  gemm<Tile>(tiles, input, weight, output, place.row, place.column, 0, kh * kw * terms.padded / Tile::TILE_K);
}

// Each phase is a correlation of its own; the blocks of the phases alternate. b: the bias of conv_transpose2d.
KERNEL __launch_bounds__(GEMM_THREADS, 3)
    blocked_backward_input(const real* __restrict__ gy, const real* __restrict__ w, OPTIONAL const real* __restrict__ b,
                           real* __restrict__ gx, GEOMETRY) {
  __shared__ Tile::Tiles tiles;
  __shared__ Axes axes;
  const int phases = stride_y * stride_x, phase = blockIdx.x % phases;
  if (threadIdx.x == 0)
    axes = {phase_axis(phase / stride_x, height, kh, oh, stride_y, padding_y, dilation_y),
            phase_axis(phase % stride_x, width, kw, ow, stride_x, padding_x, dilation_x)};
  __syncthreads();
  const int i_group = c_in / groups, o_group = c_out / groups, group = blockIdx.z;
  const Terms terms = {padded_to(o_group, Tile::TILE_K), max(1, axes.x.taps), 0, 0, 0};
  const Input input = {gy + group * o_group, &axes, images, c_out, o_group, terms};
  const RotatedWeight weight = {w + group * o_group, &axes, c_out, kw, i_group, o_group, terms};
  const u32 rows = (u32)images * axes.y.results * axes.x.results;
  const Output<true> output = {gx, b, &axes, rows, height, width, c_in, group * i_group, i_group, PLAIN};
  const Place place(blockIdx.x / phases, i_group);
  if (place.row >= rows) return;  // the phase has fewer pixels than the first one: the whole block leaves
  const int steps = axes.y.taps * axes.x.taps * (terms.padded / Tile::TILE_K);
  gemm<Tile>(tiles, input, weight, output, place.row, place.column, 0, steps);
}
