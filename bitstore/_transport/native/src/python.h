/* The types of `_core`, for the files that know Python: module.c, memory.c, origin_type.c, group_type.c, requests.c and
   results.c.

   All of Python is there; nothing else of this folder knows it. */
#ifndef BITSTORE_PYTHON_H
#define BITSTORE_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "group.h"

typedef struct {
    PyObject_HEAD
    SSL_CTX *trust;
} Trust;

typedef struct {
    PyObject_HEAD
    struct origin *origin;
} Origin;

typedef struct {
    PyObject_HEAD
    struct sheet *sheet;
} Sheet;

typedef struct {
    PyObject_HEAD
    struct group *group;
    struct job **jobs; /* by the lower half of their numbers; NULL: free */
    size_t places;
    unsigned *unused;  /* places that are free */
    size_t unused_count;
    unsigned serial;   /* the upper half of the next number: so that an old number is known as such */
    PyObject *response, *headers, *interpret; /* see `Group` in _core.pyi */
} Group;

/* What a job's token refers to. */
struct token {
    PyObject *exchange, *sheet, *body;
    PyObject *memory; /* bytes into which a part of a blob is received; NULL: none */
    size_t start;     /* where in it */
    unsigned long long number;
    bool headers; /* whether the head is wanted, whatever the status */
};

extern PyTypeObject *trust_type, *origin_type, *sheet_type;
extern PyType_Spec trust_spec, origin_spec, sheet_spec, group_spec;

PyObject *type_allocate(PyTypeObject *type);
void type_deallocate(PyObject *self);

/* Whether no thread is in the group. False: an error is set. */
bool group_is_free(Group *self);

/* Methods of a group. */
PyObject *request_begin(PyObject *group, PyObject *args);
PyObject *requests_begin(PyObject *group, PyObject *args);
PyObject *request_abandon(PyObject *group, PyObject *number);

/* Have the system give memory in pages of 2 MB where it can: one fault for each in place of 512, about a tenth of the CPU
   that large blobs take. */
void memory_huge_pages(char *memory, size_t size);

/* Functions of the module. */
PyObject *memory_new(PyObject *module, PyObject *args);
PyObject *memory_copy(PyObject *module, PyObject *args);

/* The number of a job that has ended may be given to another one. */
void number_free(Group *self, unsigned long long number);
void token_free(void *token);

/* (exchange, outcome) of a job that has ended. NULL: an error is set. */
PyObject *result_of(Group *self, struct job *job);

#endif
