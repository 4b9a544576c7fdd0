// with matmul/batch.cuh
// with _cuda/product.cuh
// with _cuda/gemm.cuh
// Matrix products of a batch by the block-wide product of gemm.cuh, versions 3 and 4 of the list in matmul.cu: a block
// makes 128 x 64 results of one matrix. With the macro TF32 tensor cores multiply.
//
// Few results of long sums would leave most of the GPU idle: there the sum is cut into chunks, each a block of its own,
// and matmul_add_chunks adds their results up in the order of the chunks, the same in each run.

// A contiguous matrix; lines are rows of x or columns of y, `terms` long. Whether the terms of a line are neighbors in
// memory is known at launch only: compiled for each way x and y may lie, there would be eight of these kernels.
struct MatrixLoader {
  const float* p;  // of the matrix; from `start` on, of the next four
  int lines, terms;
  bool ALONG_K, is_vector;
  int stride;      // from one term to the next
  int width, left; // lines and terms from p on

  __device__ void start(size_t line, size_t k) {
    p += ALONG_K ? line * terms + k : k * lines + line;
    stride = ALONG_K ? 1 : lines;
    width = (int)(lines - line);
    left = line < lines ? (int)(terms - k) : 0;  // not positive where k is behind the last term
  }
  __device__ float4 fetch() const { return load4(p, ALONG_K || left <= 0 ? left : width, is_vector); }
  __device__ void advance(int count) {
    p += (size_t)count * stride;
    left -= count;
  }
};

struct MatrixStore {
  float* z;
  int rows, columns;
  bool is_vector;
  __device__ void store(size_t row, int column, float4 sums) const {
    if (row < rows) store4(z + row * columns + column, sums, columns - column, is_vector);
  }
};

// blockIdx.x counts through the tiles of one matrix, then through the batch. blockIdx.y is a chunk of the sum, of `steps`
// steps; chunk c leaves its results in z[c], an array of the size of the whole batch.
typedef Product<128, 64> P;
KERNEL __launch_bounds__(GEMM_THREADS)
    matmul_blocked(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ z, int batch, int rows,
                   int columns, int terms, int inner, size_t x_outer, size_t x_inner, size_t y_outer, size_t y_inner,
                   int steps, int x_along_terms, int y_along_terms, int x_is_vector, int y_is_vector, int z_is_vector) {
  __shared__ P::Tiles tiles;
  const int across = (columns - 1) / P::TILE_N + 1, down = (rows - 1) / P::TILE_M + 1;
  const size_t b = blockIdx.x / across / down, size = (size_t)rows * columns;
  const MatrixLoader a = {x + matrix_start(b, inner, x_outer, x_inner), rows, terms, x_along_terms != 0,
                          x_is_vector != 0};
  const MatrixLoader c = {y + matrix_start(b, inner, y_outer, y_inner), columns, terms, y_along_terms != 0,
                          y_is_vector != 0};
  const MatrixStore results = {z + ((size_t)blockIdx.y * batch + b) * size, rows, columns, z_is_vector != 0};
  gemm<P>(tiles, a, c, results, (size_t)(blockIdx.x / across % down) * P::TILE_M, blockIdx.x % across * P::TILE_N,
          (size_t)blockIdx.y * steps * P::TILE_K, steps);
}

// z[i] = sum over c of chunks[c, i]
KERNEL matmul_add_chunks(const float* __restrict__ chunks, float* __restrict__ z, size_t n, int count) {
  for (size_t i = thread_number(); i < n; i += thread_count()) {
    float sum = 0;
    for (int c = 0; c < count; ++c) sum += chunks[c * n + i];
    z[i] = sum;
  }
}
