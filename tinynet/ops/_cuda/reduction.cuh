// Sums over many numbers that come out the same in every run. Floating-point addition depends on the order, so there is
// no atomicAdd here, whose order is that in which the blocks happen to finish. Instead there are two kernels: in the
// first, each block adds up a chunk of the numbers and writes one partial sum; in the second, a single block adds those.
// Both have a fixed order. That the second starts when the first is done is what a GPU promises for two launches; one
// kernel, whose last block finds out by a counter that it is the last, would need a fence, and its counter set to zero
// before each launch, which takes as long as the second launch.
// Sums are double: a million numbers added in float lose three digits.

// The sum over the threads of a block, in all of them. of_warp: shared memory for 32 numbers, used for this sum alone.
// Whole warps are needed: blockDim.x is a multiple of 32.
__device__ inline double block_sum(double value, double* of_warp) {
  const u32 lane = threadIdx.x % 32;
  value = warp_sum(value);
  if (lane == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  return warp_sum(lane < blockDim.x / 32 ? of_warp[lane] : 0.0);
}

// The sum of `count` numbers, in all threads of the one block that calls it: the second of the two kernels.
__device__ inline double finished_sum(const double* partial, int count, double* of_warp) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  return block_sum(sum, of_warp);
}
