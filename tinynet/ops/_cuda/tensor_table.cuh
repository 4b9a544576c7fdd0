// One launch over all tensors of an optimizer: how a block finds its elements. The host side is tensor_table.py.
//
// addresses (tensors, roles): where the arrays of each tensor begin, e.g. parameter, mean, square and gradient.
// chunks (blocks, 3): for each block the number of its tensor, its first element in there, and how many it has.

__device__ inline size_t chunk_size(const u64* chunks) { return chunks[3 * (size_t)blockIdx.x + 2]; }

// The block's elements in the array with number `role` of its tensor.
__device__ inline real* chunk_of(const u64* addresses, int roles, int role, const u64* chunks) {
  const u64* chunk = chunks + 3 * (size_t)blockIdx.x;
  return (real*)addresses[chunk[0] * roles + role] + chunk[1];
}
