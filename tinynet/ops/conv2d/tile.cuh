// The tile of the result that a block of blocked.cu and blocked_weight.cu computes.
//
// Macros: a block computes TILE_CHANNELS columns, 16, 32 or 64, as many as there are; a thread has 32 or 64 results
// (gemm.cuh). With TF32 tensor cores multiply. VECTOR is 1 if any four neighboring channels, counted from 0, lie at a
// multiple of 16 bytes: then a thread reads and writes them at once. VECTOR is a macro, because a test at run time would
// stand in the innermost loop.

__device__ inline int padded_to(int channels, int unit) { return (channels + unit - 1) / unit * unit; }

typedef Product<TILE_CHANNELS == 16 ? 256 : 128, TILE_CHANNELS> Tile;

// The tile of a block. Tiles of the same rows follow each other: their blocks run at the same time and share in the caches
// what they read of A.
struct Place {
  size_t row;
  int column;

  __device__ Place(u32 block, int columns) {
    const int across = (columns + Tile::TILE_N - 1) / Tile::TILE_N;
    row = (size_t)(block / across) * Tile::TILE_M;
    column = block % across * Tile::TILE_N;
  }
};
