// The part of CUDA C++ that tinynet's kernels use, as plain C++17: it is put in front of a .cu file, so that an
// ordinary compiler builds it for the CPU. What needs to know other threads is in the runtime, see scheduler.cpp.
#pragma once
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime.h"

#define CUSIM 1

// ---- words of the language
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __constant__ static const
// A promise to the compiler that pointers do not overlap. It is not used: a kernel may be run in place.
#define __restrict__
// Threads of a block run in turns, blocks one after the other: a static variable is shared by those it should be. In a
// section of their own, the runtime finds all of them. (extern __shared__ is rewritten before: see build.py, which also
// puts CUSIM_DEVICE_VARIABLE in front of variables in global memory.)
#define __shared__ static __attribute__((section("cusim_shared"), used))
#define CUSIM_DEVICE_VARIABLE __attribute__((section("cusim_device"), used))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define warpSize 32

// The functions below see the memory of the emulator, not that of the kernel: accesses in them are not checked.
#define CUSIM_INTERNAL __attribute__((no_sanitize("thread"))) inline

// ---- vectors. They are copied in one access, as on the GPU, so that their alignment and width are seen.
namespace cusim {
typedef uint64_t Bytes8 __attribute__((may_alias));
typedef long long Bytes16 __attribute__((vector_size(16), may_alias));
}  // namespace cusim

#define CUSIM_COPIED_AS(bytes, name)                                      \
  name() = default;                                                       \
  name(const name& other) { *(bytes*)this = *(const bytes*)&other; }      \
  name& operator=(const name& other) {                                    \
    *(bytes*)this = *(const bytes*)&other;                                \
    return *this;                                                         \
  }
#define CUSIM_VECTOR2(type, name, bytes)                                  \
  struct alignas(sizeof(bytes)) name {                                    \
    type x, y;                                                            \
    constexpr name(type x, type y) : x(x), y(y) {}                        \
    CUSIM_COPIED_AS(bytes, name)                                          \
  };                                                                      \
  inline name make_##name(type x, type y) { return name(x, y); }
#define CUSIM_VECTOR4(type, name, bytes)                                  \
  struct alignas(sizeof(bytes)) name {                                    \
    type x, y, z, w;                                                      \
    constexpr name(type x, type y, type z, type w) : x(x), y(y), z(z), w(w) {} \
    CUSIM_COPIED_AS(bytes, name)                                          \
  };                                                                      \
  inline name make_##name(type x, type y, type z, type w) { return name(x, y, z, w); }

#define CUSIM_VECTOR3(type, name)                                         \
  struct name {                                                           \
    type x, y, z;                                                         \
  };                                                                      \
  inline name make_##name(type x, type y, type z) { return {x, y, z}; }

CUSIM_VECTOR3(float, float3)
CUSIM_VECTOR3(int, int3)
CUSIM_VECTOR2(float, float2, cusim::Bytes8)
CUSIM_VECTOR2(int, int2, cusim::Bytes8)
CUSIM_VECTOR2(unsigned, uint2, cusim::Bytes8)
CUSIM_VECTOR2(double, double2, cusim::Bytes16)
CUSIM_VECTOR4(float, float4, cusim::Bytes16)
CUSIM_VECTOR4(int, int4, cusim::Bytes16)
CUSIM_VECTOR4(unsigned, uint4, cusim::Bytes16)

// ---- bits of a value
namespace cusim {
template <class To, class From>
CUSIM_INTERNAL To same_bits(From value) {
  To result = To();
  memcpy(&result, &value, sizeof(From) < sizeof(To) ? sizeof(From) : sizeof(To));
  return result;
}
}  // namespace cusim

CUSIM_INTERNAL unsigned __float_as_uint(float x) { return cusim::same_bits<unsigned>(x); }
CUSIM_INTERNAL float __uint_as_float(unsigned x) { return cusim::same_bits<float>(x); }
CUSIM_INTERNAL int __float_as_int(float x) { return cusim::same_bits<int>(x); }
CUSIM_INTERNAL float __int_as_float(int x) { return cusim::same_bits<float>(x); }
CUSIM_INTERNAL long long __double_as_longlong(double x) { return cusim::same_bits<long long>(x); }
CUSIM_INTERNAL double __longlong_as_double(long long x) { return cusim::same_bits<double>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
inline int __mul24(int a, int b) { return (int)((unsigned)(a << 8 >> 8) * (unsigned)(b << 8 >> 8)); }
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1u) << (31 - i);
  return y;
}
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }

// ---- mathematics beyond math.h. max and min are fmax and fmin for floats: of a number and NaN, they give the number.
template <class A, class B>
inline auto max(A a, B b) -> decltype(A() + B()) {
  return a > b ? a : b;
}
template <class A, class B>
inline auto min(A a, B b) -> decltype(A() + B()) {
  return a < b ? a : b;
}
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return ::fmax(a, b); }
inline double min(double a, double b) { return ::fmin(a, b); }
inline double max(float a, double b) { return ::fmax((double)a, b); }
inline double min(float a, double b) { return ::fmin((double)a, b); }
inline double max(double a, float b) { return ::fmax(a, (double)b); }
inline double min(double a, float b) { return ::fmin(a, (double)b); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

// ---- intrinsics. The fast functions give exact results here; a GPU's are less accurate.
#define CUSIM_FAST(name, result) \
  inline float name(float x) { return result; }
CUSIM_FAST(__sinf, sinf(x)) CUSIM_FAST(__cosf, cosf(x)) CUSIM_FAST(__tanf, tanf(x)) CUSIM_FAST(__tanhf, tanhf(x))
CUSIM_FAST(__expf, expf(x)) CUSIM_FAST(__exp10f, powf(10.0f, x))
CUSIM_FAST(__logf, logf(x)) CUSIM_FAST(__log2f, log2f(x)) CUSIM_FAST(__log10f, log10f(x))
CUSIM_FAST(__saturatef, isnan(x) ? 0 : min(max(x, 0.0f), 1.0f))
CUSIM_FAST(__frcp_rn, 1.0f / x) CUSIM_FAST(__fsqrt_rn, sqrtf(x)) CUSIM_FAST(__frsqrt_rn, 1.0f / sqrtf(x))
inline float __powf(float a, float b) { return powf(a, b); }
inline float __fdividef(float a, float b) { return a / b; }
inline void __sincosf(float x, float* sine, float* cosine) { *sine = sinf(x), *cosine = cosf(x); }
#define CUSIM_ROUNDED(type, letter)                                             \
  inline type __##letter##add_rn(type a, type b) { return a + b; }              \
  inline type __##letter##sub_rn(type a, type b) { return a - b; }              \
  inline type __##letter##mul_rn(type a, type b) { return a * b; }              \
  inline type __##letter##div_rn(type a, type b) { return a / b; }
CUSIM_ROUNDED(float, f)
CUSIM_ROUNDED(double, d)
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
// A conversion stops at the limits of the integer, and makes 0 of NaN.
namespace cusim {
inline double within(double x, double low, double high) { return isnan(x) ? 0 : fmin(fmax(x, low), high); }
}  // namespace cusim
#define CUSIM_TO_INTEGER(from, to, type, low, high)                                                       \
  inline type __##from##2##to##_rn(from x) { return (type)cusim::within(rint((double)x), low, high); }    \
  inline type __##from##2##to##_rz(from x) { return (type)cusim::within(trunc((double)x), low, high); }   \
  inline type __##from##2##to##_rd(from x) { return (type)cusim::within(floor((double)x), low, high); }   \
  inline type __##from##2##to##_ru(from x) { return (type)cusim::within(ceil((double)x), low, high); }
CUSIM_TO_INTEGER(float, int, int, -2147483648.0, 2147483647.0)
CUSIM_TO_INTEGER(double, int, int, -2147483648.0, 2147483647.0)
CUSIM_TO_INTEGER(float, uint, unsigned, 0.0, 4294967295.0)
CUSIM_TO_INTEGER(double, uint, unsigned, 0.0, 4294967295.0)
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __double2float_rn(double x) { return (float)x; }
template <class T>
inline T __ldg(const T* address) {
  return *address;
}

// ---- threads of a block
inline void __syncthreads(cusim::Place at = cusim::here()) { cusim::meet_block(false, at); }
inline int __syncthreads_count(int vote, cusim::Place at = cusim::here()) { return cusim::meet_block(vote, at); }
inline int __syncthreads_or(int vote, cusim::Place at = cusim::here()) { return cusim::meet_block(vote, at) > 0; }
inline int __syncthreads_and(int vote, cusim::Place at = cusim::here()) { return cusim::meet_block(!vote, at) == 0; }

// ---- lanes of a warp. width: how many neighboring lanes form a group that keeps to itself.
namespace cusim {
template <class T>
CUSIM_INTERNAL T shuffle(unsigned mask, T value, int source, Place at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle takes values of 4 or 8 bytes");
  return same_bits<T>(meet_warp(WarpOperation::shuffle, mask, same_bits<uint64_t>(value), source, at));
}
// The lane itself where the source would be in another group.
inline int within_group(int source, int width) {
  const int group = (int)lane() & ~(width - 1);
  return source >= group && source < group + width ? source : (int)lane();
}
}  // namespace cusim

inline void __syncwarp(unsigned mask = cusim::FULL_MASK, cusim::Place at = cusim::here()) {
  cusim::meet_warp(cusim::WarpOperation::synchronize, mask, 0, 0, at);
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, cusim::Place at = cusim::here()) {
  const int group = (int)cusim::lane() & ~(width - 1);
  return cusim::shuffle(mask, value, group + (source & (width - 1)), at);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, cusim::Place at = cusim::here()) {
  return cusim::shuffle(mask, value, cusim::within_group((int)cusim::lane() ^ bits, width), at);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, cusim::Place at = cusim::here()) {
  return cusim::shuffle(mask, value, cusim::within_group((int)(cusim::lane() + delta), width), at);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, cusim::Place at = cusim::here()) {
  return cusim::shuffle(mask, value, cusim::within_group((int)(cusim::lane() - delta), width), at);
}
inline unsigned __ballot_sync(unsigned mask, int vote, cusim::Place at = cusim::here()) {
  return (unsigned)cusim::meet_warp(cusim::WarpOperation::vote, mask, vote != 0, 0, at);
}
inline int __any_sync(unsigned mask, int vote, cusim::Place at = cusim::here()) {
  return __ballot_sync(mask, vote, at) != 0;
}
inline int __all_sync(unsigned mask, int vote, cusim::Place at = cusim::here()) {
  return __ballot_sync(mask, !vote, at) == 0;
}

// ---- memory shared by threads
inline void __threadfence() { cusim::fence(); }
inline void __threadfence_system() { cusim::fence(); }
inline void __threadfence_block() {}

namespace cusim {
template <class T>
struct Same {  // of the arguments of atomicAdd, the address alone says what T is; the value is converted
  typedef T type;
};
// Only one thread runs at a time, so that nothing comes between reading and writing.
template <class T, class Change>
CUSIM_INTERNAL T atomic(T* address, Change change, const void* caller) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "an atomic operation takes values of 4 or 8 bytes");
  before_atomic(address, sizeof(T), caller);
  const T old = *address;
  *address = change(old);
  return old;
}
}  // namespace cusim

#define CUSIM_ATOMIC(name, result)                                                                    \
  template <class T>                                                                                  \
  __attribute__((no_sanitize("thread"), noinline)) T name(T* address, typename cusim::Same<T>::type value) { \
    auto change = [=](T old) __attribute__((no_sanitize("thread"))) { return (T)(result); };          \
    return cusim::atomic(address, change, __builtin_return_address(0));                               \
  }
CUSIM_ATOMIC(atomicAdd, old + value)
CUSIM_ATOMIC(atomicSub, old - value)
CUSIM_ATOMIC(atomicMax, old > value ? old : value)
CUSIM_ATOMIC(atomicMin, old < value ? old : value)
CUSIM_ATOMIC(atomicAnd, old & value)
CUSIM_ATOMIC(atomicOr, old | value)
CUSIM_ATOMIC(atomicXor, old ^ value)
CUSIM_ATOMIC(atomicExch, (void(old), value))
CUSIM_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
CUSIM_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
template <class T>
__attribute__((no_sanitize("thread"), noinline)) T atomicCAS(T* address, typename cusim::Same<T>::type expected,
                                                             typename cusim::Same<T>::type value) {
  auto change = [=](T old) __attribute__((no_sanitize("thread"))) { return old == expected ? value : old; };
  return cusim::atomic(address, change, __builtin_return_address(0));
}

// ---- tensor cores. The names are those of ops/_cuda/product.cuh, which on a GPU are single instructions.
// A float rounded to the 10 bits of mantissa that TF32 has, ties away from zero (cvt.rna.tf32.f32).
CUSIM_INTERNAL unsigned to_tf32(float x) { return (__float_as_uint(x) + 0x1000u) & 0xffffe000u; }
// D += A B by the 32 lanes of a warp (mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32). A is 16 x 8, B is 8 x 8, D
// is 16 x 8; which elements are in which lane is written in scheduler.cpp.
CUSIM_INTERNAL void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                     cusim::Place at = cusim::here()) {
  const cusim::Fragments mine{d, a, b};
  cusim::meet_warp(cusim::WarpOperation::multiply, cusim::FULL_MASK, (uint64_t)(uintptr_t)&mine, 0, at);
}

// ---- a kernel between #if and #endif is not in all variants of a file. Where it is missing, what would call it finds
// this function, which is declared farther out.
#define CUSIM_MAY_BE_MISSING(kernel)  \
  template <class... Arguments>       \
  void kernel(Arguments...) {         \
    cusim::no_such_kernel();          \
  }
