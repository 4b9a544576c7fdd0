// What all CUDA kernels share. It is pasted in front of every .cu file: neither this nor a kernel includes anything,
// so that NVIDIA's run-time compiler and the CPU emulator compile them alike, without a folder of headers.
#ifndef real
#define real float  // the floating-point type; -Dreal=double makes the float64 variant
#endif

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// A function that the host can launch. extern "C" keeps its name as it is written here.
#define KERNEL extern "C" __global__ void
// In front of a pointer parameter: the host may pass a null pointer.
#define OPTIONAL

// The number of this thread among all of a one-dimensional grid, and how many there are. In size_t, or arrays of more
// than 2^31 elements would come out wrong.
__device__ inline size_t thread_number() { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline size_t thread_count() { return (size_t)gridDim.x * blockDim.x; }

// Philox 4x32-10: four random words from a counter of four words and a key of two, without any state.
// Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011. What key and counter mean: dropout/derivation.md.
__device__ inline uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u32 low_0 = 0xD2511F53u * counter.x, high_0 = __umulhi(0xD2511F53u, counter.x);
    const u32 low_1 = 0xCD9E8D57u * counter.z, high_1 = __umulhi(0xCD9E8D57u, counter.z);
    counter = make_uint4(high_1 ^ counter.y ^ key.x, low_1, high_0 ^ counter.w ^ key.y, low_0);
    key.x += 0x9E3779B9u;  // the golden ratio and the square root of 3, minus 1, times 2^32
    key.y += 0xBB67AE85u;
  }
  return counter;
}

// The random words of elements 4 block .. 4 block + 3 of dropout's mask.
__device__ inline uint4 mask_words(u64 block, u64 step, u32 seed, u32 stream) {
  return philox(make_uint4((u32)block, (u32)(block >> 32), (u32)step, (u32)(step >> 32)), make_uint2(seed, stream));
}

// One of four words, chosen by a number that is known only when the kernel runs.
__device__ inline u32 word_of(uint4 words, u32 i) {
  return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

// The sum over the 32 lanes of a warp, in all of them: every lane adds that of its partner, 16, 8, 4, 2, 1 lanes away.
template <class T>
__device__ inline T warp_sum(T value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}
