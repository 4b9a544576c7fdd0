// A pack: WIDTH neighboring numbers, which one thread reads and writes at once. With WIDTH 4, for float and int, that
// is a single instruction for 16 bytes, and a warp of 32 threads asks for 512 neighboring bytes. The address must be a
// multiple of 16. With WIDTH 1 it is the plain number, for any type and address.
#ifndef WIDTH
#define WIDTH 1
#endif

template <class T>
struct Pack {
  T v[WIDTH];
};

#if WIDTH == 4
__device__ inline Pack<float> load(const float* p) {
  const float4 q = *(const float4*)p;
  return {{q.x, q.y, q.z, q.w}};
}
__device__ inline Pack<int> load(const int* p) {
  const int4 q = *(const int4*)p;
  return {{q.x, q.y, q.z, q.w}};
}
__device__ inline void store(float* p, Pack<float> a) { *(float4*)p = make_float4(a.v[0], a.v[1], a.v[2], a.v[3]); }
__device__ inline void store(int* p, Pack<int> a) { *(int4*)p = make_int4(a.v[0], a.v[1], a.v[2], a.v[3]); }
#else
template <class T>
__device__ inline Pack<T> load(const T* p) {
  return {{*p}};
}
template <class T>
__device__ inline void store(T* p, Pack<T> a) {
  *p = a.v[0];
}
#endif
