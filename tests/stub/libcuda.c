// A driver for tests on machines without a GPU: one device of compute capability 9.0 whose memory is the host's. Copies
// happen, launches are counted and handed to a callback; nothing of a kernel is executed here.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
typedef void (*callback_t)(const char *name, unsigned blocks, unsigned threads, void **arguments, void *stream);

static __thread void *current;
static char context[64];
static callback_t callback;
long stub_launches, stub_copies;
int stub_capturing;

void stub_set_callback(callback_t c) { callback = c; }

struct Kernel { char name[1024]; };

static void *kernel_of(const char *name)
{
    struct Kernel *k = calloc(1, sizeof *k);
    strncpy(k->name, name, sizeof k->name - 1);
    return k;
}

static R launched(void *kernel, unsigned blocks, unsigned threads, void **arguments, void *stream)
{
    stub_launches++;
    if (callback)
        callback(((struct Kernel *)kernel)->name, blocks, threads, arguments, stream);
    return 0;
}

static R succeed(void) { return 0; }
R cuInit(unsigned flags) { return 0; }
R cuDriverGetVersion(int *v) { *v = 13000; return 0; }
R cuDeviceGetCount(int *n) { *n = 1; return 0; }
R cuDeviceGet(int *d, int ordinal) { *d = ordinal; return 0; }
R cuDeviceGetName(char *name, int n, int d) { strncpy(name, "stub", n); return 0; }
R cuDeviceGetUuid(char *u, int d) { memset(u, 7, 16); return 0; }
R cuDeviceTotalMem(size_t *n, int d) { *n = (size_t)1 << 33; return 0; }
R cuDeviceGetAttribute(int *p, int which, int d)
{
    switch (which) {
    case 75: *p = 9; break;     // compute capability
    case 76: *p = 0; break;
    case 16: *p = 132; break;   // multiprocessors
    case 10: *p = 32; break;    // threads of a warp
    case 1: case 2: case 3: *p = 1024; break;
    case 4: *p = 64; break;
    case 5: *p = 0x7fffffff; break;
    case 6: case 7: *p = 65535; break;
    case 8: *p = 49152; break;
    case 39: *p = 2048; break;
    case 82: *p = 65536; break;
    case 41: case 115: *p = 1; break;
    default: *p = 0;
    }
    return 0;
}
R cuDevicePrimaryCtxRetain(void **c, int d) { *c = context; return 0; }
R cuDevicePrimaryCtxGetState(int d, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
R cuCtxGetCurrent(void **c) { *c = current; return 0; }
R cuCtxSetCurrent(void *c) { current = c; return 0; }
R cuCtxPushCurrent(void *c) { current = c; return 0; }
R cuCtxPopCurrent(void **c) { *c = current; current = 0; return 0; }
R cuCtxGetDevice(int *d) { *d = 0; return 0; }
R cuCtxSynchronize(void) { return 0; }
R cuStreamGetCtx(void *s, void **c) { *c = context; return 0; }
R cuStreamGetCtx_v2(void *s, void **c, void **g) { *c = context; if (g) *g = 0; return 0; }
R cuStreamIsCapturing(void *s, int *c) { *c = stub_capturing; return 0; }
R cuStreamCreate(void **s, unsigned flags) { *s = malloc(16); return 0; }
R cuStreamCreateWithPriority(void **s, unsigned flags, int p) { *s = malloc(16); return 0; }
R cuMemAlloc(uint64_t *p, size_t n)
{
    void *q = 0;
    if (posix_memalign(&q, 512, n ? n : 1)) return 2;
    *p = (uint64_t)q;
    return 0;
}
R cuMemFree(uint64_t p) { free((void *)p); return 0; }
R cuMemHostAlloc(void **p, size_t n, unsigned flags) { return posix_memalign(p, 512, n ? n : 1) ? 2 : 0; }
R cuMemFreeHost(void *p) { free(p); return 0; }
R cuMemcpyHtoD(uint64_t to, const void *from, size_t n) { memcpy((void *)to, from, n); return 0; }
R cuMemcpyHtoDAsync(uint64_t to, const void *from, size_t n, void *s) { stub_copies++; memcpy((void *)to, from, n); return 0; }
R cuMemcpyDtoH(void *to, uint64_t from, size_t n) { memcpy(to, (void *)from, n); return 0; }
R cuMemcpyDtoD(uint64_t to, uint64_t from, size_t n) { memmove((void *)to, (void *)from, n); return 0; }
R cuPointerGetAttribute(void *out, int which, uint64_t p) { *(int *)out = 0; return 0; }
R cuEventCreate(void **e, unsigned flags) { *e = malloc(16); return 0; }
R cuLibraryLoadData(void **l, const void *code, void *a, void *b, unsigned n, void *c, void *d, unsigned m)
{
    *l = malloc(16);
    return 0;
}
R cuLibraryGetKernel(void **k, void *l, const char *name) { *k = kernel_of(name); return 0; }
R cuKernelGetFunction(void **f, void *k) { *f = k; return 0; }
R cuFuncGetAttribute(int *p, int which, void *f) { *p = 0; return 0; }
R cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                 void *s, void **p, void **extra)
{
    return launched(f, gx, bx, p, s);
}
R cuLaunchKernelEx(const unsigned *c, void *f, void **p, void **extra) { return launched(f, c[0], c[3], p, *(void **)(c + 8)); }
R cuGetErrorName(int e, const char **s) { *s = "STUB_ERROR"; return 0; }
R cuGetErrorString(int e, const char **s) { *s = "an error of the stub"; return 0; }

R cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status);
R cuGetProcAddress(const char *name, void **found, int version, uint64_t flags)
{
    static void *self;
    if (!self) {
        Dl_info info;
        dladdr((void *)cuInit, &info);
        self = dlopen(info.dli_fname, RTLD_NOW);
    }
    *found = strcmp(name, "cuGetProcAddress") ? dlsym(self, name) : (void *)cuGetProcAddress_v2;
    if (!*found)
        *found = (void *)succeed; // what no test depends on
    return 0;
}
R cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status)
{
    if (status) *status = 0;
    return cuGetProcAddress(name, found, version, flags);
}
