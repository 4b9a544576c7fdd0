// with _cuda/activations.cuh
// with conv2d/geometry.cuh
// with _cuda/product.cuh
// with _cuda/gemm.cuh
// with conv2d/tile.cuh

// `backward_weight` of conv2d by products of matrices, versions 3 and 4 of the list in conv2d.cu; see blocked.cu.
//
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
  bool exists;            // false for lines of the tile after the last: nothing is read for them
  int oy, ox, first_row;  // output pixel p; the first row of its image, if all images are stacked
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
