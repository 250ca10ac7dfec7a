/* The head of an HTTP/1.1 answer, and the framing of a chunked body. No Python, no memory of its own. */
#ifndef BITSTORE_HEAD_H
#define BITSTORE_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAD_LONGEST 16384 /* bytes of a head: a longer one is not interpreted here */
#define BODY_CHUNKED (-1)  /* in place of a length */

enum reading {
    READING_MORE,   /* incomplete so far */
    READING_WHOLE,  /* at its end */
    READING_UNCLEAR /* not plainly within the rules: libcurl shall ask again */
};

struct head {
    int status;
    int64_t length; /* bytes of the body, or BODY_CHUNKED */
    size_t size;    /* bytes of the head, with the empty line */
    bool last;      /* whether the connection is of no use after this answer */
};

/* Read the head at the beginning of `text`. Rules: RFC 9112, sections 4 to 6. */
enum reading head_read(const char *text, size_t size, struct head *head);

/* Where a chunked body stands. All zero: at its beginning. */
struct chunks {
    uint64_t left; /* bytes of this chunk that are still to come, without its line end */
    int place;
    int digits; /* of the size so far */
};

/* Take bytes of a chunked body, and move the bytes of its chunks to the front of `data`.

   used: bytes taken of `size`. body: bytes of chunks now at the front. Rules: RFC 9112, section 7.1. */
enum reading chunks_take(struct chunks *chunks, char *data, size_t size, size_t *used, size_t *body);

#endif
