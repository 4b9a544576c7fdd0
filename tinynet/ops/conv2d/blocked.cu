// with _cuda/activations.cuh
// with conv2d/geometry.cuh
// with _cuda/gemm.cuh

// conv2d by products of matrices, versions 3 and 4 of the list in conv2d.cu. The matrices are never stored: gemm.cuh asks
// for their elements, and the loaders below say where in x, w and gy those lie ("implicit" matrices).
//
//                       rows m                    terms k                      columns n
//   forward             pixels of y               ky, kx, channels of x        channels of y
//   backward_input      pixels of x, by phases    taps of the phase, co        channels of x
//   backward_weight     ky, kx, channels of x     pixels of y                  channels of y
//
// With groups, all of this is within a group: blockIdx.z. A block computes TILE_CHANNELS columns, a macro: 16, 32 or 64,
// as many as there are. A thread has 32 or 64 results (gemm.cuh). With the macro TF32 tensor cores multiply. The macro
// VECTOR is 1 where any four neighboring channels, counted from 0, lie at a multiple of 16 bytes: then they are read and
// written at once. That must be known to the compiler, because the decision would stand in the innermost loop.

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

// Phase a of backward_input: the inputs i = a, a + stride, ... collect from the outputs o = (i + padding - k dilation) /
// stride of those taps k for which it is whole. In decreasing order of k, their o increase by equal steps.
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

// The sum over taps and channels as one index k. The channels of each tap are padded with zeros to whole steps of
// the product, so that a step never holds two taps.
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

__device__ inline int padded_to(int channels, int unit) { return (channels + unit - 1) / unit * unit; }

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

// Takes the sums: adds the bias, applies the epilogue, and writes channels of the group to pixel m of the result.
// PHASES: whether the results of the correlation are not all pixels, but one phase of them.
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
      const uint4 words = epilogue.words(i / 4);
      z = make_float4(epilogue(z.x, words.x), epilogue(z.y, words.y), epilogue(z.z, words.z),
                      epilogue(z.w, words.w));
    } else {
#pragma unroll 1  // rare, so one copy of the code will do: each in turn becomes the first, and after four turns all are back
      for (int q = 0; q < 4; ++q) z = make_float4(z.y, z.z, z.w, epilogue.at(i + q, z.x));
    }
    store4(y + i, z, count, VECTOR);
  }
};

typedef Product<TILE_CHANNELS == 16 ? 256 : 128, TILE_CHANNELS> Tile;

// The tile of a block. Those of the same rows follow each other: they run at the same time and share what they read of A.
struct Place {
  size_t row;
  int column;

  __device__ Place(u32 block, int columns) {
    const int across = (columns + Tile::TILE_N - 1) / Tile::TILE_N;
    row = (size_t)(block / across) * Tile::TILE_M;
    column = block % across * Tile::TILE_N;
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

// Each phase is a correlation of its own; their blocks take turns. b: the bias of conv_transpose2d.
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
  if (place.row >= rows) return;  // a phase with fewer pixels than the first, or with none: the whole block leaves
  const int steps = axes.y.taps * axes.x.taps * (terms.padded / Tile::TILE_K);
  gemm<Tile>(tiles, input, weight, output, place.row, place.column, 0, steps);
}

// gw[line, co] = sum over p of x[p, line] gy[p, co]: line is (ky, kx, ci), the channels of a tap padded to a multiple
// of four; p counts the pixels of all gy. The sum is cut into parts, one for each blockIdx.y.
struct Lines {
  int taps_x, taps, padded, i_group;

  __device__ int tap(size_t line) const { return (int)line / padded; }
  __device__ int channel(size_t line) const { return (int)line % padded; }
};

// A[line, p]: the pixel of x that output pixel p reads with the tap of this line.
struct SeenInput {
  static constexpr bool ALONG_K = false;
  const float* x;  // of the first channel of the group
  Geometry g;
  Lines lines;

  int shift_y, shift_x, channel;  // of the line: its tap reads iy = oy stride + shift
  bool exists;            // or it is one of the tile's behind the last: nothing is read for it
  int oy, ox, first_row;  // output pixel p; the first row of its image, where the images are one column of rows
  int pixel;              // of x, that p reads
  bool inside;

  __device__ void start(size_t line, size_t k) {
    const u32 p = (u32)k;
    const int tap = lines.tap(line);
    channel = lines.channel(line);
    exists = tap < lines.taps;
    shift_y = tap / lines.taps_x * g.dilation_y - g.padding_y;
    shift_x = tap % lines.taps_x * g.dilation_x - g.padding_x;
    ox = p % g.ow;
    oy = p / g.ow % g.oh;
    first_row = p / g.ow / g.oh * g.height;
    find();
  }

  __device__ void find() {
    const int iy = oy * g.stride_y + shift_y, ix = ox * g.stride_x + shift_x;
    inside = exists && first_row < g.images * g.height && is_inside(iy, g.height) && is_inside(ix, g.width);
    pixel = (first_row + iy) * g.width + ix;
  }

  __device__ float4 fetch() const {
    return load4(x + (i64)pixel * g.c_in + channel, inside ? lines.i_group - channel : 0, VECTOR);
  }

  __device__ void advance(int terms) {
    ox += terms;
    while (ox >= g.ow) {
      ox -= g.ow;
      if (++oy == g.oh) {
        oy = 0;
        first_row += g.height;
      }
    }
    find();
  }
};

// B[p, co]
struct Gradient {
  static constexpr bool ALONG_K = false;
  const float* gy;  // of the first channel of the group
  u32 pixels;
  int pitch, o_group;

  const float* here;
  u32 p;
  int count;

  __device__ void start(size_t line, size_t k) {
    p = (u32)k;
    here = gy + k * pitch + line;
    count = o_group - (int)line;
  }

  __device__ float4 fetch() const { return load4(here, p < pixels ? count : 0, VECTOR); }

  __device__ void advance(int terms) {
    p += terms;
    here += (size_t)terms * pitch;
  }
};

// Writes a part of the sum for gw.
struct PartOfWeight {
  float* part;
  Lines lines;
  int pitch, first, o_group;

  __device__ void store(size_t line, int column, float4 sums) const {
    const int tap = lines.tap(line), channel = lines.channel(line);
    if (tap >= lines.taps || channel >= lines.i_group) return;
    const size_t i = ((size_t)tap * lines.i_group + channel) * pitch + first + column;
    store4(part + i, sums, o_group - column, VECTOR);
  }
};

// partial[part, ky, kx, ci, co]. steps: pixels in a part, in steps of the product. blockIdx.z: the group.
KERNEL __launch_bounds__(GEMM_THREADS, 3)
    blocked_backward_weight(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial, GEOMETRY,
                            int steps) {
  __shared__ Tile::Tiles tiles;
  const int i_group = c_in / groups, o_group = c_out / groups, group = blockIdx.z;
  const Lines lines = {kw, kh * kw, padded_to(i_group, 4), i_group};
  const SeenInput input = {x + group * i_group, {GEOMETRY_VALUES}, lines};
  const Gradient gradient = {gy + group * o_group, (u32)images * oh * ow, c_out, o_group};
  float* part = partial + (size_t)blockIdx.y * kh * kw * i_group * c_out;
  const PartOfWeight output = {part, lines, c_out, group * o_group, o_group};
  const Place place(blockIdx.x, o_group);
  const size_t first_pixel = (size_t)blockIdx.y * steps * Tile::TILE_K;
  gemm<Tile>(tiles, input, gradient, output, place.row, place.column, first_pixel, steps);
}
