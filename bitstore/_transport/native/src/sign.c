#include "sign.h"

#include <stdlib.h>
#include <string.h>

#define DIGEST_SIZE 32
#define BLOCK_SIZE 64

void to_hexadecimal(const unsigned char *digest, size_t size, char *text) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
}

static EVP_MD_CTX *keyed(const unsigned char *key, unsigned char pad) {
    unsigned char block[BLOCK_SIZE];
    for (size_t i = 0; i < BLOCK_SIZE; i++)
        block[i] = (unsigned char)((i < DIGEST_SIZE ? key[i] : 0) ^ pad);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) && EVP_DigestUpdate(context, block, BLOCK_SIZE))
        return context;
    EVP_MD_CTX_free(context);
    return NULL;
}

static char *copied(const char *text, size_t size) {
    char *copy = malloc(size ? size : 1);
    if (copy)
        memcpy(copy, text, size);
    return copy;
}

struct sheet *sheet_new(const char *const texts[4], const size_t sizes[4], const unsigned char *key, size_t key_size) {
    struct sheet *sheet = key_size == DIGEST_SIZE ? calloc(1, sizeof *sheet) : NULL;
    if (!sheet)
        return NULL;
    sheet->canonical = copied(texts[0], sheet->canonical_size = sizes[0]);
    sheet->text = copied(texts[1], sheet->text_size = sizes[1]);
    sheet->before = copied(texts[2], sheet->before_size = sizes[2]);
    sheet->after = copied(texts[3], sheet->after_size = sizes[3]);
    sheet->inner = keyed(key, 0x36);
    sheet->outer = keyed(key, 0x5c);
    if (sheet->canonical && sheet->text && sheet->before && sheet->after && sheet->inner && sheet->outer)
        return sheet;
    sheet_free(sheet);
    return NULL;
}

void sheet_free(struct sheet *sheet) {
    if (!sheet)
        return;
    free(sheet->canonical);
    free(sheet->text);
    free(sheet->before);
    free(sheet->after);
    EVP_MD_CTX_free(sheet->inner);
    EVP_MD_CTX_free(sheet->outer);
    free(sheet);
}

size_t sheet_message_size(const struct sheet *sheet, size_t path_size) {
    return 4 + path_size + sheet->before_size + SIGNATURE_SIZE + sheet->after_size;
}

int sheet_write(const struct sheet *sheet, EVP_MD_CTX *context, const char *path, size_t path_size, char *message) {
    unsigned char digest[DIGEST_SIZE];
    char hash[SIGNATURE_SIZE];
    char *at = message;
    if (!EVP_DigestInit_ex(context, EVP_sha256(), NULL) || !EVP_DigestUpdate(context, "GET\n", 4) ||
        !EVP_DigestUpdate(context, path, path_size) ||
        !EVP_DigestUpdate(context, sheet->canonical, sheet->canonical_size) ||
        !EVP_DigestFinal_ex(context, digest, NULL))
        return -1;
    to_hexadecimal(digest, DIGEST_SIZE, hash);
    if (!EVP_MD_CTX_copy_ex(context, sheet->inner) || !EVP_DigestUpdate(context, sheet->text, sheet->text_size) ||
        !EVP_DigestUpdate(context, hash, SIGNATURE_SIZE) || !EVP_DigestFinal_ex(context, digest, NULL))
        return -1;
    if (!EVP_MD_CTX_copy_ex(context, sheet->outer) || !EVP_DigestUpdate(context, digest, DIGEST_SIZE) ||
        !EVP_DigestFinal_ex(context, digest, NULL))
        return -1;
    memcpy(at, "GET ", 4);
    memcpy(at += 4, path, path_size);
    memcpy(at += path_size, sheet->before, sheet->before_size);
    to_hexadecimal(digest, DIGEST_SIZE, at += sheet->before_size);
    memcpy(at + SIGNATURE_SIZE, sheet->after, sheet->after_size);
    return 0;
}
