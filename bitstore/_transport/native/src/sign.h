/* Signature Version 4 of plain GETs: what changes from request to request. `bitstore._raw.s3_signing` does the rest.

   Protocol: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html */
#ifndef BITSTORE_SIGN_H
#define BITSTORE_SIGN_H

#include <openssl/evp.h>
#include <stddef.h>

#define SIGNATURE_SIZE 64 /* characters */

/* What all requests of one second to one origin have in common. */
struct sheet {
    char *canonical; /* what follows the path in the canonical form */
    char *text;      /* what stands before the hash of that form in the text that is signed */
    char *before;    /* what follows the path in the message, up to the signature */
    char *after;     /* the rest of the message */
    size_t canonical_size, text_size, before_size, after_size;
    EVP_MD_CTX *inner, *outer; /* of HMAC-SHA256, after their keys */
};

/* The texts are copied. NULL: no memory, or the key is not of 32 bytes. */
struct sheet *sheet_new(const char *const texts[4], const size_t sizes[4], const unsigned char *key, size_t key_size);
void sheet_free(struct sheet *sheet);

/* Bytes of the message for a path of `path_size` bytes. */
size_t sheet_message_size(const struct sheet *sheet, size_t path_size);

/* Write that message. `context` is scratch. -1: OpenSSL failed. */
int sheet_write(const struct sheet *sheet, EVP_MD_CTX *context, const char *path, size_t path_size, char *message);

void to_hexadecimal(const unsigned char *digest, size_t size, char *text);

#endif
