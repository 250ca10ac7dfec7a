/* `Group` of `_core`. While a group works, the GIL is released. */
#include "python.h"

#include <stdlib.h>
#include <string.h>

static PyObject *group_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"response", "headers", "interpret", NULL};
    PyObject *response, *headers, *interpret;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO", names, &PyType_Type, &response, &headers, &interpret))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)response, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "response: expected a type of named tuples");
        return NULL;
    }
    Group *self = (Group *)type_allocate(type);
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
        group_free(((Group *)self)->group, token_free);
    Py_XDECREF(((Group *)self)->response);
    Py_XDECREF(((Group *)self)->headers);
    Py_XDECREF(((Group *)self)->interpret);
    free(((Group *)self)->jobs);
    free(((Group *)self)->unused);
    type_deallocate(self);
}

/* Whether a body is received into memory that came with its request: a part of a blob, which fits in there. */
static bool has_memory(struct job *job) {
    struct token *token = job->token;
    uint64_t size = (uint64_t)job->head.length;
    if (!token->memory || job->large || job->head.status != 206 ||
        size > (uint64_t)PyBytes_Size(token->memory) - token->start)
        return false;
    Py_INCREF(token->body = token->memory);
    job->large = PyBytes_AsString(token->memory) + token->start;
    job->large_size = (size_t)size;
    return true;
}

/* Give memory to the large bodies that want it. */
static void feed(struct group *group) {
    struct job *job;
    while ((job = group_wanting(group))) {
        struct token *token = job->token;
        if (has_memory(job)) {
            group_resume(group, job);
            continue;
        }
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
        memory_huge_pages(large, size);
        if (job->large)
            memcpy(large, job->large, job->body);
        Py_XDECREF(token->body);
        token->body = body;
        job->large = large;
        job->large_size = size;
        group_resume(group, job);
    }
}

static PyObject *results(Group *self) {
    struct group *group = self->group;
    PyObject *list = PyList_New(0);
    struct job *job;
    while (list && (job = group_ended(group))) {
        number_free(self, ((struct token *)job->token)->number); /* first: Python code may run, and abandon it */
        PyObject *result = result_of(self, job);
        token_free(job->token);
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
    if (!PyArg_ParseTuple(args, "nnnd", &limit, &most, &portion, &patience) || !group_is_free(self))
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
    if (!PyArg_ParseTuple(args, "d", &seconds) || !group_is_free(self))
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
    if ((most == -1 && PyErr_Occurred()) || !group_is_free(self))
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

static PyMethodDef group_methods[] = {{"begin", request_begin, METH_VARARGS, NULL},
                                      {"begin_together", requests_begin, METH_VARARGS, NULL},
                                      {"abandon", request_abandon, METH_O, NULL},
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
PyType_Spec group_spec = {"bitstore._transport.native._core.Group", sizeof(Group), 0, Py_TPFLAGS_DEFAULT,
                                 group_slots};
