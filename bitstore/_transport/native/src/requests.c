/* How requests come in from Python, and how they are abandoned: each is a job with a number. */
#include "python.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

void token_free(void *pointer) {
    struct token *token = pointer;
    Py_XDECREF(token->exchange);
    Py_XDECREF(token->sheet);
    Py_XDECREF(token->body);
    Py_XDECREF(token->memory);
    free(token);
}

bool group_is_free(Group *self) {
    if (!group_is_entered(self->group))
        return true;
    PyErr_SetString(PyExc_RuntimeError, "the group is in use in another thread");
    return false;
}

/* A number for a job that is about to begin; 0: no memory. */
static unsigned long long new_number(Group *self) {
    if (!self->unused_count) {
        size_t places = self->places ? 2 * self->places : 256;
        struct job **jobs = realloc(self->jobs, places * sizeof *jobs);
        if (jobs)
            self->jobs = jobs;
        unsigned *unused = realloc(self->unused, places * sizeof *unused);
        if (unused)
            self->unused = unused;
        if (!jobs || !unused || places > UINT_MAX)
            return 0;
        for (size_t place = self->places; place < places; place++) {
            jobs[place] = NULL;
            unused[self->unused_count++] = (unsigned)place;
        }
        self->places = places;
    }
    if (!++self->serial)
        self->serial = 1;
    return (unsigned long long)self->serial << 32 | self->unused[--self->unused_count];
}

void number_free(Group *self, unsigned long long number) {
    unsigned place = (unsigned)number;
    self->jobs[place] = NULL;
    self->unused[self->unused_count++] = place;
}

static struct job *number_job(Group *self, unsigned long long number) {
    unsigned place = (unsigned)number;
    struct job *job = place < self->places ? self->jobs[place] : NULL;
    return job && ((struct token *)job->token)->number == number ? job : NULL;
}

/* What requests have in common that come in together. */
struct alike {
    PyObject *origin, *sheet; /* None for a sheet: nothing is signed here */
    int algorithm;
    long long most; /* bytes of a body; 0: no limit; negative: that of the origin */
    int headers;    /* whether the head is wanted, whatever the status */
    PyObject *memory; /* for the body of a part; NULL: memory of its own */
    Py_ssize_t start; /* where in it */
};

/* Whether these are what they have to be, and the group can take requests now. False: an error is set. */
static bool check(Group *self, const struct alike *alike) {
    if (alike->sheet != Py_None && !PyObject_TypeCheck(alike->sheet, sheet_type)) {
        PyErr_SetString(PyExc_TypeError, "sheet: expected a Sheet or None");
        return false;
    }
    if (alike->algorithm < 0 || alike->algorithm >= ALGORITHMS) {
        PyErr_Format(PyExc_ValueError, "algorithm: expected 0 to %d, not %d", ALGORITHMS - 1, alike->algorithm);
        return false;
    }
    if (alike->memory) {
        if (!PyBytes_Check(alike->memory)) {
            PyErr_SetString(PyExc_TypeError, "memory: expected bytes");
            return false;
        }
        if (alike->start < 0 || alike->start > PyBytes_Size(alike->memory)) {
            PyErr_SetString(PyExc_ValueError, "start: expected a position in the memory");
            return false;
        }
    }
    return group_is_free(self);
}

/* Whether a path can be sent as it is. */
static bool is_plain(const char *path, Py_ssize_t size) {
    for (Py_ssize_t i = 0; i < size; i++)
        if (path[i] <= ' ' || path[i] > '~' || path[i] == '#')
            return false;
    return size > 0 && path[0] == '/';
}

/* Take a request; returns its number. 0: an error is set. */
static unsigned long long take(Group *self, PyObject *exchange, PyObject *text, const struct alike *alike) {
    Py_ssize_t size;
    const char *message = PyUnicode_AsUTF8AndSize(text, &size);
    if (!message)
        return 0;
    bool is_signed = alike->sheet != Py_None;
    if (is_signed && !is_plain(message, size)) {
        PyErr_SetString(PyExc_ValueError, "text: expected a path of visible ASCII characters without #");
        return 0;
    }
    struct origin *origin = ((Origin *)alike->origin)->origin;
    struct job job = {.origin = origin,
                      .message_size = (size_t)size,
                      .algorithm = (enum algorithm)alike->algorithm,
                      .most = alike->most < 0 ? origin->most : alike->most,
                      .sheet = is_signed ? ((Sheet *)alike->sheet)->sheet : NULL};
    struct token *token = calloc(1, sizeof *token);
    struct job *begun = NULL;
    job.message = malloc(size ? (size_t)size : 1);
    if (token && job.message) {
        memcpy(job.message, message, (size_t)size);
        job.token = token;
        token->headers = alike->headers || alike->memory;
        token->number = new_number(self);
        begun = token->number ? group_begin(self->group, &job) : NULL;
    }
    if (!begun) {
        if (token && token->number)
            number_free(self, token->number);
        free(token);
        free(job.message);
        PyErr_NoMemory();
        return 0;
    }
    Py_INCREF(exchange);
    token->exchange = exchange;
    Py_XINCREF(alike->memory);
    token->memory = alike->memory;
    token->start = (size_t)alike->start;
    if (is_signed) {
        Py_INCREF(alike->sheet);
        token->sheet = alike->sheet;
    }
    self->jobs[(unsigned)token->number] = begun;
    return token->number;
}

static void drop(Group *self, struct job *job) {
    struct token *token = job->token;
    number_free(self, token->number);
    group_abandon(self->group, job);
    token_free(token);
}

/* The number of a request that was taken. NULL: an error is set, and it is abandoned. */
static PyObject *taken(Group *self, unsigned long long number) {
    PyObject *result = number ? PyLong_FromUnsignedLongLong(number) : NULL;
    if (number && !result)
        drop(self, number_job(self, number));
    return result;
}

PyObject *request_begin(PyObject *object, PyObject *args) {
    Group *self = (Group *)object;
    struct alike alike = {.most = -1};
    PyObject *exchange, *text;
    if (!PyArg_ParseTuple(args, "OO!UOi|LpOn", &exchange, origin_type, &alike.origin, &text, &alike.sheet,
                          &alike.algorithm, &alike.most, &alike.headers, &alike.memory, &alike.start))
        return NULL;
    if (alike.memory == Py_None)
        alike.memory = NULL;
    if (!check(self, &alike))
        return NULL;
    return taken(self, take(self, exchange, text, &alike));
}

PyObject *requests_begin(PyObject *object, PyObject *args) {
    Group *self = (Group *)object;
    struct alike alike = {.most = -1};
    PyObject *exchanges, *texts;
    if (!PyArg_ParseTuple(args, "O!O!O!Oi", &PyList_Type, &exchanges, origin_type, &alike.origin, &PyList_Type, &texts,
                          &alike.sheet, &alike.algorithm) ||
        !check(self, &alike))
        return NULL;
    Py_ssize_t size = PyList_Size(exchanges);
    if (PyList_Size(texts) != size) {
        PyErr_SetString(PyExc_ValueError, "texts: expected one for each exchange");
        return NULL;
    }
    PyObject *numbers = PyList_New(size);
    for (Py_ssize_t i = 0; numbers && i < size; i++) {
        PyObject *number = taken(self, take(self, PyList_GetItem(exchanges, i), PyList_GetItem(texts, i), &alike));
        if (!number) { /* those before it have begun */
            PyErr_Clear();
            Py_INCREF(number = Py_None);
        }
        PyList_SetItem(numbers, i, number);
    }
    return numbers;
}

PyObject *request_abandon(PyObject *object, PyObject *number) {
    Group *self = (Group *)object;
    unsigned long long value = PyLong_AsUnsignedLongLong(number);
    if (PyErr_Occurred() || !group_is_free(self))
        return NULL;
    struct job *job = number_job(self, value);
    if (!job) {
        PyErr_SetObject(PyExc_KeyError, number);
        return NULL;
    }
    drop(self, job);
    Py_RETURN_NONE;
}
