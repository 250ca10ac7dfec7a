/* What has come of a request, for Python. */
#include "python.h"

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
    bool with_head = job->outcome == ANSWERED || (job->head.status && ((struct token *)job->token)->headers);
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

PyObject *result_of(Group *self, struct job *job) {
    struct token *token = job->token;
    bool plain = job->outcome == ANSWERED && job->head.status < 300 && !token->headers;
    PyObject *exchange = token->exchange;
    PyObject *items[2] = {exchange, plain ? response_of(self, job) : interpreted(self, job, exchange)};
    token->exchange = NULL;
    if (!items[1])
        items[1] = error_of();
    return tuple_of(items, 2);
}
