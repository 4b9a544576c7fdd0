// The soft Dice loss. I = sum p t, S = sum (p + t) for each group; L = mean over groups of 1 - (2 I + s) / (S + s).
// gp = gy (constant_g - slope_g t). Letters as in derivation.md.
//
// Layout: p, t, gp (groups, length), any shape with the group first. A group is an image, or the whole batch. Each is
// cut into `chunks` chunks of `chunk` elements, and block g * chunks + c has chunk c of group g, so that no block holds
// elements of two images. Neighboring threads have neighboring elements.
//
// Versions: one. Each element is read once and takes four operations: nothing can be gained but by reading less.
// The gradient depends on p through I and S only, so backward reads t alone.
// with _cuda/reduction.cuh

// Where the elements of this block begin and end, counted from the start of the array.
__device__ inline size_t first_element(size_t length, size_t chunk, u32 chunks) {
  return blockIdx.x / chunks * length + blockIdx.x % chunks * chunk;
}
__device__ inline size_t end_element(size_t length, size_t chunk, u32 chunks) {
  const size_t end_of_group = (blockIdx.x / chunks + 1) * length;
  const size_t end = first_element(length, chunk, chunks) + chunk;
  return end < end_of_group ? end : end_of_group;
}

// partial (groups, chunks, 2): I and S of each block's elements.
KERNEL dice_sums(const real* __restrict__ p, const real* __restrict__ t, double* __restrict__ partial, size_t length,
                 size_t chunk, u32 chunks) {
  __shared__ double of_warp[2][32];
  const size_t end = end_element(length, chunk, chunks);
  double overlap = 0, total = 0;
  for (size_t i = first_element(length, chunk, chunks) + threadIdx.x; i < end; i += blockDim.x) {
    const double p_i = p[i], t_i = t[i];
    overlap += p_i * t_i;
    total += p_i + t_i;
  }
  overlap = block_sum(overlap, of_warp[0]);
  total = block_sum(total, of_warp[1]);
  if (threadIdx.x == 0) {
    partial[2 * (size_t)blockIdx.x] = overlap;
    partial[2 * (size_t)blockIdx.x + 1] = total;
  }
}

// One block. sums (groups, 2): I and S of each group, added up by one warp; loss (): the mean over the groups.
KERNEL dice_finish(const double* __restrict__ partial, double* __restrict__ sums, real* __restrict__ loss, int groups,
                   u32 chunks, double smooth) {
  __shared__ double of_warp[32];
  const u32 lane = threadIdx.x % 32;
  double losses = 0;  // of this warp's groups; kept by lane 0
  for (int g = threadIdx.x / 32; g < groups; g += blockDim.x / 32) {
    const double* of_group = partial + 2 * (size_t)g * chunks;
    double overlap = 0, total = 0;
    for (u32 c = lane; c < chunks; c += 32) {
      overlap += of_group[2 * c];
      total += of_group[2 * c + 1];
    }
    overlap = warp_sum(overlap);
    total = warp_sum(total);
    if (lane == 0) {
      sums[2 * g] = overlap;
      sums[2 * g + 1] = total;
      losses += 1 - (2 * overlap + smooth) / (total + smooth);
    }
  }
  losses = block_sum(losses, of_warp);
  if (threadIdx.x == 0) *loss = (real)(losses / groups);
}

// Every thread works out the two numbers of its group: cheaper than a kernel that does it for all of them first.
KERNEL dice_backward(const real* __restrict__ gy, const real* __restrict__ t, const double* __restrict__ sums,
                     real* __restrict__ gp, int groups, size_t length, size_t chunk, u32 chunks, double smooth) {
  const u32 g = blockIdx.x / chunks;
  const double overlap = sums[2 * (size_t)g] + 0.5 * smooth, total = sums[2 * (size_t)g + 1] + smooth;
  const double slope_in_full = 2 / total / groups * *gy;
  const real constant = (real)(overlap / total * slope_in_full), slope = (real)slope_in_full;
  const size_t end = end_element(length, chunk, chunks);
  for (size_t i = first_element(length, chunk, chunks) + threadIdx.x; i < end; i += blockDim.x) {
    gp[i] = constant - slope * t[i];
  }
}
