// Where matrix b of the batch begins: the batch counts through two axes, of which either operand may stay put in one.
__device__ inline size_t matrix_start(size_t b, int inner, size_t outer_stride, size_t inner_stride) {
  return b / inner * outer_stride + b % inner * inner_stride;
}
