/* `bitstore._transport.native._core`: the group of connections for Python. `_core.pyi` documents it.

   All of Python is here; nothing else of this folder knows it. While a group works, the GIL is released. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"

#define API 1 /* what `bitstore._transport.native` expects; changes with anything that it calls */

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
    unsigned long long number;
};

static PyTypeObject *trust_type, *origin_type, *sheet_type;

static void release_token(void *pointer) {
    struct token *token = pointer;
    Py_XDECREF(token->exchange);
    Py_XDECREF(token->sheet);
    Py_XDECREF(token->body);
    free(token);
}

static PyObject *allocate(PyTypeObject *type) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

static void deallocate(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Trust */

static PyObject *trust_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"file", "folder", NULL};
    const char *file, *folder;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "zz", names, &file, &folder))
        return NULL;
    SSL_CTX *trust = trust_new(file, folder);
    if (!trust) {
        PyErr_Format(PyExc_OSError, "no certificate authorities in %s", file ? file : folder ? folder : "nothing");
        return NULL;
    }
    Trust *self = (Trust *)allocate(type);
    if (!self) {
        SSL_CTX_free(trust);
        return NULL;
    }
    self->trust = trust;
    return (PyObject *)self;
}

static void trust_dealloc(PyObject *self) {
    SSL_CTX_free(((Trust *)self)->trust);
    deallocate(self);
}

static PyType_Slot trust_slots[] = {{Py_tp_new, trust_make}, {Py_tp_dealloc, trust_dealloc}, {0, NULL}};
static PyType_Spec trust_spec = {"bitstore._transport.native._core.Trust", sizeof(Trust), 0, Py_TPFLAGS_DEFAULT,
                                 trust_slots};

/* Origin */

static PyObject *origin_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"trust", "server_name", "connect_timeout", "stall_timeout", "max_bytes", NULL};
    PyObject *trust;
    const char *server_name;
    double connect_timeout, stall_timeout;
    long long most;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OsddL", names, &trust, &server_name, &connect_timeout,
                                     &stall_timeout, &most))
        return NULL;
    if (trust != Py_None && !PyObject_TypeCheck(trust, trust_type)) {
        PyErr_SetString(PyExc_TypeError, "trust: expected a Trust or None");
        return NULL;
    }
    Origin *self = (Origin *)allocate(type);
    if (!self)
        return NULL;
    self->origin = origin_new(trust == Py_None ? NULL : ((Trust *)trust)->trust, server_name);
    if (!self->origin) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->origin->connect_timeout = connect_timeout;
    self->origin->stall_timeout = stall_timeout;
    self->origin->most = most;
    return (PyObject *)self;
}

static void origin_dealloc(PyObject *self) {
    struct origin *origin = ((Origin *)self)->origin;
    if (origin) {
        group_retire(origin);
        origin_drop(origin);
    }
    deallocate(self);
}

static PyObject *origin_reached(PyObject *self, PyObject *args) {
    const char *text;
    int port;
    double seconds;
    if (!PyArg_ParseTuple(args, "sid", &text, &port, &seconds))
        return NULL;
    struct origin *origin = ((Origin *)self)->origin;
    struct address address;
    if (address_read(&address, text, port)) {
        origin->address = address;
        origin->known_until = group_now() + seconds;
    }
    Py_RETURN_NONE;
}

static PyMethodDef origin_methods[] = {{"reached", origin_reached, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot origin_slots[] = {
    {Py_tp_new, origin_make}, {Py_tp_dealloc, origin_dealloc}, {Py_tp_methods, origin_methods}, {0, NULL}};
static PyType_Spec origin_spec = {"bitstore._transport.native._core.Origin", sizeof(Origin), 0, Py_TPFLAGS_DEFAULT,
                                  origin_slots};

/* Sheet */

static PyObject *sheet_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"canonical", "text", "before", "after", "key", NULL};
    const char *texts[4], *key;
    Py_ssize_t sizes[4], key_size;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#y#y#y#y#", names, &texts[0], &sizes[0], &texts[1], &sizes[1],
                                     &texts[2], &sizes[2], &texts[3], &sizes[3], &key, &key_size))
        return NULL;
    const size_t unsigned_sizes[4] = {(size_t)sizes[0], (size_t)sizes[1], (size_t)sizes[2], (size_t)sizes[3]};
    struct sheet *sheet = sheet_new(texts, unsigned_sizes, (const unsigned char *)key, (size_t)key_size);
    if (!sheet) {
        PyErr_SetString(PyExc_ValueError, "no sheet can be made: the key must be of 32 bytes");
        return NULL;
    }
    Sheet *self = (Sheet *)allocate(type);
    if (!self) {
        sheet_free(sheet);
        return NULL;
    }
    self->sheet = sheet;
    return (PyObject *)self;
}

static void sheet_dealloc(PyObject *self) {
    sheet_free(((Sheet *)self)->sheet);
    deallocate(self);
}

static PyType_Slot sheet_slots[] = {{Py_tp_new, sheet_make}, {Py_tp_dealloc, sheet_dealloc}, {0, NULL}};
static PyType_Spec sheet_spec = {"bitstore._transport.native._core.Sheet", sizeof(Sheet), 0, Py_TPFLAGS_DEFAULT,
                                 sheet_slots};

/* Group */

static PyObject *group_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"response", "headers", "interpret", NULL};
    PyObject *response, *headers, *interpret;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO", names, &PyType_Type, &response, &headers, &interpret))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)response, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "response: expected a type of named tuples");
        return NULL;
    }
    Group *self = (Group *)allocate(type);
    if (!self)
        return NULL;
    Py_INCREF(self->response = response);
    Py_INCREF(self->headers = headers);
    Py_INCREF(self->interpret = interpret);
    self->group = group_new();
    if (!self->group) {
        Py_DECREF(self);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return (PyObject *)self;
}

static void group_dealloc(PyObject *self) {
    if (((Group *)self)->group)
        group_free(((Group *)self)->group, release_token);
    Py_XDECREF(((Group *)self)->response);
    Py_XDECREF(((Group *)self)->headers);
    Py_XDECREF(((Group *)self)->interpret);
    free(((Group *)self)->jobs);
    free(((Group *)self)->unused);
    deallocate(self);
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

static void free_number(Group *self, unsigned long long number) {
    unsigned place = (unsigned)number;
    self->jobs[place] = NULL;
    self->unused[self->unused_count++] = place;
}

static struct job *job_of(Group *self, unsigned long long number) {
    unsigned place = (unsigned)number;
    struct job *job = place < self->places ? self->jobs[place] : NULL;
    return job && ((struct token *)job->token)->number == number ? job : NULL;
}

static bool enter(Group *self) {
    if (!group_is_entered(self->group))
        return true;
    PyErr_SetString(PyExc_RuntimeError, "the group is in use in another thread");
    return false;
}

static PyObject *group_begin_(PyObject *object, PyObject *args) {
    Group *self = (Group *)object;
    PyObject *exchange, *origin, *sheet;
    const char *text;
    Py_ssize_t size;
    int algorithm;
    if (!PyArg_ParseTuple(args, "OO!s#Oi", &exchange, origin_type, &origin, &text, &size, &sheet, &algorithm))
        return NULL;
    if (sheet != Py_None && !PyObject_TypeCheck(sheet, sheet_type)) {
        PyErr_SetString(PyExc_TypeError, "sheet: expected a Sheet or None");
        return NULL;
    }
    if (algorithm < 0 || algorithm >= ALGORITHMS) {
        PyErr_Format(PyExc_ValueError, "algorithm: expected 0 to %d, not %d", ALGORITHMS - 1, algorithm);
        return NULL;
    }
    if (!enter(self))
        return NULL;
    struct job job = {.origin = ((Origin *)origin)->origin,
                      .message_size = (size_t)size,
                      .algorithm = (enum algorithm)algorithm,
                      .sheet = sheet == Py_None ? NULL : ((Sheet *)sheet)->sheet};
    struct token *token = calloc(1, sizeof *token);
    struct job *begun = NULL;
    job.message = malloc(size ? (size_t)size : 1);
    if (token && job.message) {
        memcpy(job.message, text, (size_t)size);
        job.token = token;
        token->number = new_number(self);
        begun = token->number ? group_begin(self->group, &job) : NULL;
    }
    if (!begun) {
        if (token && token->number)
            free_number(self, token->number);
        free(token);
        free(job.message);
        return PyErr_NoMemory();
    }
    Py_INCREF(exchange);
    token->exchange = exchange;
    if (job.sheet) {
        Py_INCREF(sheet);
        token->sheet = sheet;
    }
    self->jobs[(unsigned)token->number] = begun;
    return PyLong_FromUnsignedLongLong(token->number);
}

static PyObject *group_abandon_(PyObject *object, PyObject *number) {
    Group *self = (Group *)object;
    unsigned long long value = PyLong_AsUnsignedLongLong(number);
    if (PyErr_Occurred() || !enter(self))
        return NULL;
    struct job *job = job_of(self, value);
    if (!job) {
        PyErr_SetObject(PyExc_KeyError, number);
        return NULL;
    }
    struct token *token = job->token;
    free_number(self, value);
    group_abandon(self->group, job);
    release_token(token);
    Py_RETURN_NONE;
}

/* Give memory to the large bodies that want it. */
static void feed(struct group *group) {
    struct job *job;
    while ((job = group_wanting(group))) {
        struct token *token = job->token;
        size_t size = job_wants(job);
        if (size > PY_SSIZE_T_MAX) {
            group_decline(group, job);
            continue;
        }
        PyObject *body = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
        if (!body) {
            PyErr_Clear(); /* libcurl asks again, and reports that there is no memory */
            group_decline(group, job);
            continue;
        }
        char *large = PyBytes_AsString(body);
        if (job->large)
            memcpy(large, job->large, job->body);
        Py_XDECREF(token->body);
        token->body = body;
        job->large = large;
        job->large_size = size;
        group_resume(group, job);
    }
}

static PyObject *body_of(struct job *job) {
    struct token *token = job->token;
    if (!job->large)
        return PyBytes_FromStringAndSize(job->small ? job->small + job->head.size : "", (Py_ssize_t)job->body);
    if (job->large_size != job->body)
        return PyBytes_FromStringAndSize(job->large, (Py_ssize_t)job->body);
    PyObject *body = token->body;
    token->body = NULL;
    return body;
}

static PyObject *none(void) {
    Py_INCREF(Py_None);
    return Py_None;
}

static PyObject *digest_of(struct job *job) {
    char hexadecimal[2 * sizeof job->digest];
    to_hexadecimal(job->digest, job->digest_size, hexadecimal);
    return job->digest_size ? PyUnicode_FromStringAndSize(hexadecimal, 2 * (Py_ssize_t)job->digest_size) : none();
}

/* A tuple of items, which it takes over; NULL if one of them is NULL. */
static PyObject *tuple_of(PyObject *const *items, Py_ssize_t size) {
    PyObject *tuple = PyTuple_New(size);
    bool whole = tuple != NULL;
    for (Py_ssize_t i = 0; i < size; i++) {
        whole &= items[i] != NULL;
        if (!tuple)
            Py_XDECREF(items[i]);
        else
            PyTuple_SetItem(tuple, i, items[i]);
    }
    if (!whole)
        Py_CLEAR(tuple);
    return tuple;
}

/* The `Response` of a job that was answered with a status below 300: without a call of Python code, for each blob. */
static PyObject *response_of(Group *self, struct job *job) {
    Py_INCREF(self->headers);
    PyObject *items[5] = {PyLong_FromLong(job->head.status), body_of(job), self->headers, PyFloat_FromDouble(0.0),
                          digest_of(job)};
    PyObject *fields = tuple_of(items, 5);
    PyObject *args = fields ? PyTuple_Pack(1, fields) : NULL;
    newfunc make = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    PyObject *response = args ? make((PyTypeObject *)self->response, args, NULL) : NULL;
    Py_XDECREF(args);
    Py_XDECREF(fields);
    return response;
}

/* What `interpret` makes of any other outcome. */
static PyObject *interpreted(Group *self, struct job *job, PyObject *exchange) {
    bool with_body = job->outcome == ANSWERED || job->outcome == CUT || job->outcome == BROKEN || job->outcome == STALLED;
    bool with_head = job->outcome == ANSWERED;
    Py_INCREF(exchange);
    PyObject *items[6] = {exchange,
                          PyLong_FromLong(job->outcome),
                          PyLong_FromLong(job->head.status),
                          with_body ? body_of(job) : none(),
                          with_head ? PyBytes_FromStringAndSize(job->small, (Py_ssize_t)job->head.size) : none(),
                          PyLong_FromLong(job->error)};
    PyObject *args = tuple_of(items, 6);
    PyObject *outcome = args ? PyObject_CallObject(self->interpret, args) : NULL;
    Py_XDECREF(args);
    return outcome;
}

/* The error that is set, as an outcome: one answer that cannot be handed over must not lose the others. */
static PyObject *error_of(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* (exchange, outcome) of a job that has ended. */
static PyObject *result_of(Group *self, struct job *job) {
    struct token *token = job->token;
    bool plain = job->outcome == ANSWERED && job->head.status < 300;
    PyObject *exchange = token->exchange;
    PyObject *items[2] = {exchange, plain ? response_of(self, job) : interpreted(self, job, exchange)};
    token->exchange = NULL;
    if (!items[1])
        items[1] = error_of();
    return tuple_of(items, 2);
}

static PyObject *results(Group *self) {
    struct group *group = self->group;
    PyObject *list = PyList_New(0);
    struct job *job;
    while (list && (job = group_ended(group))) {
        PyObject *result = result_of(self, job);
        free_number(self, ((struct token *)job->token)->number);
        release_token(job->token);
        job_free(group, job);
        if (!result || PyList_Append(list, result))
            Py_CLEAR(list);
        Py_XDECREF(result);
    }
    return list;
}

static PyObject *group_turn(PyObject *object, PyObject *args) {
    Group *self = (Group *)object;
    Py_ssize_t limit, most, portion;
    double patience;
    if (!PyArg_ParseTuple(args, "nnnd", &limit, &most, &portion, &patience) || !enter(self))
        return NULL;
    group_enter(self->group, true);
    Py_BEGIN_ALLOW_THREADS
    group_step(self->group, limit < 0 ? 0 : (size_t)limit, most < 0 ? 0 : (size_t)most, portion < 1 ? 1 : (size_t)portion,
               patience, 0.0);
    Py_END_ALLOW_THREADS
    feed(self->group);
    group_enter(self->group, false);
    return results(self);
}

#define SLICE 0.1 /* seconds between two looks for signals, and for time limits */

static PyObject *group_perform(PyObject *object, PyObject *args) {
    Group *self = (Group *)object;
    double seconds;
    if (!PyArg_ParseTuple(args, "d", &seconds) || !enter(self))
        return NULL;
    struct group *group = self->group;
    double until = group_now() + seconds;
    bool ended = false, late = false;
    group_enter(self->group, true);
    while (!ended && !late && !PyErr_CheckSignals()) {
        double left = until - group_now();
        Py_BEGIN_ALLOW_THREADS
        group_step(group, 1, 1, 1, 0.0, left < 0.0 ? 0.0 : left < SLICE ? left : SLICE);
        Py_END_ALLOW_THREADS
        feed(group);
        ended = group_has_ended(group);
        late = left <= 0.0;
    }
    group_enter(self->group, false);
    if (PyErr_Occurred())
        return NULL;
    return results(self);
}

static PyObject *group_busy_(PyObject *object, PyObject *Py_UNUSED(none_)) {
    return PyBool_FromLong(group_busy(((Group *)object)->group));
}

static PyObject *group_fileno(PyObject *object, PyObject *Py_UNUSED(none_)) {
    return PyLong_FromLong(group_fd(((Group *)object)->group));
}

static PyObject *group_trim_(PyObject *object, PyObject *number) {
    Group *self = (Group *)object;
    Py_ssize_t most = PyLong_AsSsize_t(number);
    if ((most == -1 && PyErr_Occurred()) || !enter(self))
        return NULL;
    group_trim(self->group, most < 0 ? 0 : (size_t)most);
    Py_RETURN_NONE;
}

static PyObject *connections_get(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromSize_t(group_connections(((Group *)object)->group));
}

static PyObject *queued_get(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromSize_t(group_queued(((Group *)object)->group));
}

static PyObject *carried_get(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromSize_t(group_carried(((Group *)object)->group));
}

static PyMethodDef group_methods[] = {{"begin", group_begin_, METH_VARARGS, NULL},
                                      {"abandon", group_abandon_, METH_O, NULL},
                                      {"turn", group_turn, METH_VARARGS, NULL},
                                      {"perform", group_perform, METH_VARARGS, NULL},
                                      {"busy", group_busy_, METH_NOARGS, NULL},
                                      {"fileno", group_fileno, METH_NOARGS, NULL},
                                      {"trim", group_trim_, METH_O, NULL},
                                      {NULL, NULL, 0, NULL}};
static PyGetSetDef group_properties[] = {{"connections", connections_get, NULL, NULL, NULL},
                                         {"queued", queued_get, NULL, NULL, NULL},
                                         {"carried", carried_get, NULL, NULL, NULL},
                                         {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot group_slots[] = {{Py_tp_new, group_make},
                                    {Py_tp_dealloc, group_dealloc},
                                    {Py_tp_methods, group_methods},
                                    {Py_tp_getset, group_properties},
                                    {0, NULL}};
static PyType_Spec group_spec = {"bitstore._transport.native._core.Group", sizeof(Group), 0, Py_TPFLAGS_DEFAULT,
                                 group_slots};

static PyObject *version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none_)) {
    return PyUnicode_FromString(OpenSSL_version(OPENSSL_VERSION));
}

static PyMethodDef functions[] = {{"version", version, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};

static int add_type(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **kept) {
    PyObject *type = PyType_FromSpec(spec);
    if (!type)
        return -1;
    if (kept) {
        Py_INCREF(type);
        *kept = (PyTypeObject *)type;
    }
    if (!PyModule_AddObject(module, name, type))
        return 0;
    Py_DECREF(type);
    return -1;
}

static int fill(PyObject *module) {
    if (add_type(module, &trust_spec, "Trust", &trust_type) || add_type(module, &origin_spec, "Origin", &origin_type) ||
        add_type(module, &sheet_spec, "Sheet", &sheet_type) || add_type(module, &group_spec, "Group", NULL))
        return -1;
    return PyModule_AddIntConstant(module, "API", API);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill},
#ifdef Py_GIL_DISABLED
                                   {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
                                   {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_core", NULL, 0, functions, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
