#include "head.h"

#include <string.h>
#include <strings.h>

#define LONGEST_LENGTH 18 /* digits: no sum of two such numbers overflows */
#define LONGEST_CHUNK 12  /* hexadecimal digits */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Characters that may stand in a field's name here: all visible ones but the colon. */
static bool in_name(char c) { return c > ' ' && c <= '~' && c != ':'; }

static bool is(const char *text, size_t size, const char *word) {
    return size == strlen(word) && strncasecmp(text, word, size) == 0;
}

static bool read_length(const char *text, size_t size, int64_t *length) {
    if (size < 1 || size > LONGEST_LENGTH)
        return false;
    int64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        if (!is_digit(text[i]))
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *length = value;
    return true;
}

/* What the fields say, while they are read. */
struct said {
    bool old, length, chunked, connection;
};

static bool read_field(const char *line, size_t size, struct said *said, struct head *head) {
    size_t name = 0;
    while (name < size && in_name(line[name]))
        name++;
    if (!name || name == size || line[name] != ':')
        return false;
    const char *value = line + name + 1, *end = line + size;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t value_size = (size_t)(end - value);
    /* Twice: a proxy on the way may have believed the other value. */
    if (is(line, name, "content-length")) {
        if (said->length || !read_length(value, value_size, &head->length))
            return false;
        said->length = true;
    } else if (is(line, name, "transfer-encoding")) {
        if (said->chunked || said->old || !is(value, value_size, "chunked"))
            return false;
        said->chunked = true;
    } else if (is(line, name, "connection")) {
        if (said->connection)
            return false;
        said->connection = true;
        if (value_size && !is(value, value_size, "keep-alive"))
            head->last = true;
    }
    return true;
}

static bool read_status(const char *line, size_t size, struct said *said, struct head *head) {
    if (size < 12 || memcmp(line, "HTTP/1.", 7) || (line[7] != '0' && line[7] != '1') || line[8] != ' ')
        return false;
    for (int i = 9; i < 12; i++)
        if (!is_digit(line[i]))
            return false;
    if (size > 12 && line[12] != ' ')
        return false;
    said->old = line[7] == '0';
    head->last = said->old;
    head->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    return head->status >= 200; /* else another head follows */
}

enum reading head_read(const char *text, size_t size, struct head *head) {
    struct said said = {0};
    size_t at = 0;
    *head = (struct head){0};
    for (;;) {
        const char *line = text + at;
        const char *feed = size > at ? memchr(line, '\n', size - at) : NULL;
        if (!feed)
            return size > HEAD_LONGEST || (size >= 5 && memcmp(text, "HTTP/", 5)) ? READING_UNCLEAR : READING_MORE;
        size_t length = (size_t)(feed - line);
        if (!length || line[length - 1] != '\r')
            return READING_UNCLEAR; /* for libcurl a line may end so; others see one line */
        length--;
        bool first = !at;
        at += length + 2;
        if (!length && !first)
            break;
        if (at > HEAD_LONGEST || memchr(line, '\r', length) || memchr(line, '\0', length))
            return READING_UNCLEAR;
        if (!(first ? read_status(line, length, &said, head) : read_field(line, length, &said, head)))
            return READING_UNCLEAR;
    }
    head->size = at;
    if (said.chunked) {
        if (said.length)
            return READING_UNCLEAR;
        head->length = BODY_CHUNKED;
    }
    if (head->status == 204 || head->status == 304) {
        head->last |= head->length != 0; /* a body may follow all the same, and is no answer to the next request */
        head->length = 0;
    } else if (!said.length && !said.chunked)
        return READING_UNCLEAR; /* the body ends with the connection */
    return READING_WHOLE;
}

/* Places in a chunked body. */
enum { SIZE, EXTENSION, SIZE_FEED, DATA, DATA_RETURN, DATA_FEED };
enum { TRAILER = DATA_FEED + 1, TRAILER_NAME, TRAILER_TEXT, TRAILER_FEED, LAST_FEED };

static int hexadecimal(char c) {
    if (is_digit(c))
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum reading chunks_take(struct chunks *chunks, char *data, size_t size, size_t *used, size_t *body) {
    size_t at = 0, out = 0;
    enum reading outcome = READING_MORE;
    while (at < size && outcome == READING_MORE) {
        if (chunks->place == DATA) {
            size_t part = size - at;
            if (part > chunks->left)
                part = (size_t)chunks->left;
            memmove(data + out, data + at, part);
            out += part;
            at += part;
            chunks->left -= part;
            if (!chunks->left)
                chunks->place = DATA_RETURN;
            continue;
        }
        char c = data[at++];
        bool bad = false;
        switch (chunks->place) {
        case SIZE:
            if (hexadecimal(c) >= 0) {
                chunks->left = chunks->left * 16 + (uint64_t)hexadecimal(c);
                bad = ++chunks->digits > LONGEST_CHUNK;
            } else if (!chunks->digits) {
                bad = true;
            } else if (c == '\r') {
                chunks->place = SIZE_FEED;
            } else if (c == ';' || c == ' ' || c == '\t') {
                chunks->place = EXTENSION;
            } else {
                bad = true;
            }
            break;
        case EXTENSION: /* nothing that this library uses */
            if (c == '\r')
                chunks->place = SIZE_FEED;
            else
                bad = c == '\n' || ++chunks->digits > HEAD_LONGEST;
            break;
        case SIZE_FEED:
            bad = c != '\n';
            chunks->digits = 0;
            chunks->place = chunks->left ? DATA : TRAILER;
            break;
        case DATA_RETURN:
            bad = c != '\r';
            chunks->place = DATA_FEED;
            break;
        case DATA_FEED:
            bad = c != '\n';
            chunks->place = SIZE;
            break;
        case TRAILER: /* the beginning of a field, or of the empty line */
            if (c == '\r')
                chunks->place = LAST_FEED;
            else {
                bad = !in_name(c);
                chunks->place = TRAILER_NAME;
            }
            break;
        case TRAILER_NAME:
            if (c == ':')
                chunks->place = TRAILER_TEXT;
            else
                bad = !in_name(c) || ++chunks->digits > HEAD_LONGEST;
            break;
        case TRAILER_TEXT:
            if (c == '\r')
                chunks->place = TRAILER_FEED;
            else
                bad = c == '\n' || !c || ++chunks->digits > HEAD_LONGEST;
            break;
        case TRAILER_FEED:
            bad = c != '\n';
            chunks->place = TRAILER;
            break;
        default: /* LAST_FEED */
            bad = c != '\n';
            outcome = READING_WHOLE;
        }
        if (bad)
            outcome = READING_UNCLEAR;
    }
    *used = at;
    *body = out;
    return outcome;
}
