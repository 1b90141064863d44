/* Every float32 through an encoder, against the definition of rounding to the nearest: the candidates come in order, so
   that one walk along both lists finds each. Leaves how many each encoder has wrong, and the first of them in `bad`. */
#include <math.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>

typedef void (*tile_t)(void **arrays, const void *scalars, const ptrdiff_t *sizes);

static double value(int exponent_bits, uint32_t h) { /* of the finite numbers, and of infinity as if it were the next */
    int mantissa_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(h >> mantissa_bits);
    double mantissa = h & ((1u << mantissa_bits) - 1);
    if (exponent == 0)
        return ldexp(mantissa, 1 - bias - mantissa_bits);
    return ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

void encode_all(const tile_t *tiles, int count, int exponent_bits, uint64_t *wrong, uint32_t *bad) {
    enum { CHUNK = 8192 };
    static float x[CHUNK];
    static uint16_t nearest[CHUNK], out[CHUNK];
    void *arrays[2] = {x, out};
    ptrdiff_t n = CHUNK;
    const uint32_t infinite = ((1u << exponent_bits) - 1) << (15 - exponent_bits);
    for (uint32_t sign = 0; sign < 2; sign++) {
        uint32_t h = 0; /* the nearest so far */
        double middle = (value(exponent_bits, 0) + value(exponent_bits, 1)) / 2;
        for (uint32_t start = 0; start < 0x80000000u; start += CHUNK) {
            for (uint32_t i = 0; i < CHUNK; i++) {
                uint32_t bits = (start + i) | sign << 31;
                memcpy(&x[i], &bits, 4);
            }
            for (uint32_t i = 0; i < CHUNK && start + i <= 0x7f800000u; i++) {
                double size = fabs((double)x[i]);
                while (h < infinite && (size > middle || (size == middle && (h & 1)))) {
                    h++;
                    if (h < infinite)
                        middle = (value(exponent_bits, h) + value(exponent_bits, h + 1)) / 2;
                }
                nearest[i] = (uint16_t)(h | sign << 15);
            }
            for (int k = 0; k < count; k++) {
                tiles[k](arrays, NULL, &n);
                for (uint32_t i = 0; i < CHUNK; i++) {
                    int is_nan = start + i > 0x7f800000u; /* which stays one */
                    int right = is_nan ? (out[i] & 0x7fff) > infinite && out[i] >> 15 == sign : out[i] == nearest[i];
                    if (!right && wrong[k]++ == 0)
                        bad[k] = (start + i) | sign << 31;
                }
            }
        }
    }
}
