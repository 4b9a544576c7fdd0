// Average pooling by windows of size_y x size_x pixels, padding counted as zeros; derivation.md:
//
//     avg_pool           y[n, oy, ox, c] = 1/(size_y size_x) sum over ky, kx of x[n, iy, ix, c]
//                        iy = oy stride_y + ky - padding_y,   ix = ox stride_x + kx - padding_x
//     avg_pool_backward  gx[n, iy, ix, c] = 1/(size_y size_x) sum of gy[n, oy, ox, c] over the windows (oy, ox) that
//                        pixel (iy, ix) lies in: a range along each axis
//
// Versions of both, from this text:
//   1 (WIDTH 1)  a thread for one channel of a pixel of the result.
//   2 (WIDTH 4)  a thread for four neighboring channels, read and written in one instruction each (pack.cuh).
//                float32 at addresses that are multiples of 16 bytes, with C a multiple of 4.
// In backward, a thread collects what its pixel gets; a thread for each window would have to add atomically, in an order
// that changes from run to run, where windows overlap.
//
// Layout: channels last, so neighboring threads have neighboring channels, then neighboring pixels of a row. A block
// has packs of one row of the result, "line" blockIdx.x; gridDim.y blocks share a long one, `items` is how many packs
// it has. So a thread divides 32-bit numbers only, which is cheap, to find its pixel.

// with _cuda/pack.cuh

#define WINDOWS int height, int width, int out_height, int out_width, int size_y, int size_x, int stride_y, \
                int stride_x, int padding_y, int padding_x

// The sum of the packs at (iy, ix) for first_y <= iy < end_y, first_x <= ix < end_x in a plane, divided.
__device__ inline Pack<real> mean_of(const real* plane, int width, int channels, int first_y, int end_y, int first_x,
                                     int end_x, int count) {
  Pack<real> total;
#pragma unroll
  for (int k = 0; k < WIDTH; ++k) total.v[k] = 0;
  for (int iy = first_y; iy < end_y; ++iy) {
    for (int ix = first_x; ix < end_x; ++ix) {
      const Pack<real> pixel = load(plane + ((size_t)iy * width + ix) * channels);
#pragma unroll
      for (int k = 0; k < WIDTH; ++k) total.v[k] += pixel.v[k];
    }
  }
#pragma unroll
  for (int k = 0; k < WIDTH; ++k) total.v[k] /= (real)count;
  return total;
}

// A block for each row (n, oy) of y.
KERNEL avg_pool(const real* __restrict__ x, real* __restrict__ y, int items, int channels, WINDOWS) {
  const u32 packs = channels / WIDTH;
  const int top = (int)(blockIdx.x % out_height) * stride_y - padding_y;
  const size_t n = blockIdx.x / out_height;
  for (u32 item = blockIdx.y * blockDim.x + threadIdx.x; item < (u32)items; item += gridDim.y * blockDim.x) {
    const int ox = item / packs, c = item % packs * WIDTH;
    const int left = ox * stride_x - padding_x;
    const Pack<real> mean = mean_of(x + n * height * width * channels + c, width, channels, max(top, 0),
                                    min(top + size_y, height), max(left, 0), min(left + size_x, width), size_y * size_x);
    store(y + ((size_t)blockIdx.x * out_width + ox) * channels + c, mean);
  }
}

// A block for each row (n, iy) of gx.
KERNEL avg_pool_backward(const real* __restrict__ gy, real* __restrict__ gx, int items, int channels, WINDOWS) {
  const u32 packs = channels / WIDTH;
  const int iy = (int)(blockIdx.x % height) + padding_y;  // of the padded plane, as is ix
  const size_t n = blockIdx.x / height;
  // Rounded up: (a + s - 1) / s. Negative where the pixel lies in the first window, and 0 then.
  const int first_y = max(iy - size_y + stride_y, 0) / stride_y, last_y = min(iy / stride_y, out_height - 1);
  for (u32 item = blockIdx.y * blockDim.x + threadIdx.x; item < (u32)items; item += gridDim.y * blockDim.x) {
    const int column = item / packs, c = item % packs * WIDTH, ix = column + padding_x;
    const int first_x = max(ix - size_x + stride_x, 0) / stride_x, last_x = min(ix / stride_x, out_width - 1);
    const Pack<real> mean = mean_of(gy + n * out_height * out_width * channels + c, out_width, channels, first_y,
                                    last_y + 1, first_x, last_x + 1, size_y * size_x);
    store(gx + ((size_t)blockIdx.x * width + column) * channels + c, mean);
  }
}
